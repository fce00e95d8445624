"""tokenizer.json against PyPI's tokenizers: files of every supported kind are trained here, and the ids of a fuzzed corpus in many
scripts must be the same, with and without special tokens; decoding gives the same text wherever that is well-formed."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import peers

TOOL = pathlib.Path(os.environ.get("SLUICE_BUILD", peers.SOURCE / "build" / "release")) / "tokenize_lines"
if not os.access(TOOL, os.X_OK):
    peers.skip(f"no program at {TOOL}")
peers.enter()

import tokenizer_corpus  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

COUNT = int(os.environ.get("SLUICE_PEER_TEXTS", "1500"))
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
ODD = [r"\w+|\W", r"\b", r"(?<=[a-z])[A-Z]", r"\d{2}(?=\d)", r"(ab)+?|x*?y", r"^\s+|\s+$", r"(?:a|ab)(?:c|bcd)?", r"\p{Han}+|\P{L}+", r"[\w&&[^\d]]"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = [AddedToken("<s>", special=True), AddedToken("</s>", special=True), AddedToken("<|im_start|>", special=True)]


def train(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(tokenizer_corpus.training(), trainer)
    return tokenizer


def bpe(**options):
    options = {"vocab_size": 1500, "show_progress": False, "special_tokens": SPECIAL, **options}
    return trainers.BpeTrainer(**options)


def with_bytes(tokenizer):
    """The same BPE with the 256 byte tokens that byte_fallback needs."""
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    data["model"].update(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    vocab.setdefault("<unk>", len(vocab))
    return Tokenizer.from_str(json.dumps(data))


def fields(message):
    """Number and bytes of each length-delimited field of a protobuf message; others are passed over."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            varint()
        else:
            at += 4 if tag & 7 == 5 else 8


def charsmap():
    """The compiled nmt_nfkc of a SentencePiece model: ModelProto.normalizer_spec.precompiled_charsmap."""
    model = (peers.SOURCE / "tests" / "goldens" / "inference" / "tokenizer" / "spm-unigram.model").read_bytes()
    return next(value for number, value in fields(dict(fields(model))[3]) if number == 2)


def cases():
    level = pre_tokenizers.ByteLevel
    split = lambda pattern, behaviour="isolated", invert=False: pre_tokenizers.Split(Regex(pattern), behaviour, invert)  # noqa: E731
    whole = lambda *parts: pre_tokenizers.Sequence([*parts, level(add_prefix_space=False, use_regex=False)])  # noqa: E731
    byte_bpe = lambda pre, **options: train(  # noqa: E731
        models.BPE(**options), bpe(initial_alphabet=BYTES), pre_tokenizer=pre, decoder=decoders.ByteLevel())
    yield "gpt2", byte_bpe(level(add_prefix_space=False))
    yield "gpt2 prefix", byte_bpe(level(add_prefix_space=True))
    yield "smollm", byte_bpe(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level(add_prefix_space=False)]))
    yield "llama3", byte_bpe(whole(split(LLAMA3)), ignore_merges=True)
    qwen = byte_bpe(whole(split(QWEN2)))
    qwen.normalizer = normalizers.NFC()
    yield "qwen2", qwen
    yield "gpt4o", byte_bpe(whole(split(GPT4O, "removed", True)))
    yield "possessive", byte_bpe(whole(split(POSSESSIVE)))
    yield "bloom", byte_bpe(whole(split(BLOOM)))
    yield "deepseek3", byte_bpe(whole(*[split(each) for each in DEEPSEEK3]))
    yield "no alphabet", train(models.BPE(), bpe(), pre_tokenizer=level(add_prefix_space=False), decoder=decoders.ByteLevel())
    yield "whole text", train(models.BPE(), bpe(initial_alphabet=BYTES), pre_tokenizer=level(add_prefix_space=False, use_regex=False))
    for pattern in ODD[:-1]:
        yield f"odd {pattern}", byte_bpe(whole(split(pattern)))
    for behaviour in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"split {behaviour} {invert}", byte_bpe(whole(split(r"[\s\d]", behaviour, invert)))
        yield f"punctuation {behaviour}", byte_bpe(whole(pre_tokenizers.Punctuation(behaviour)))
    yield "digits", byte_bpe(whole(pre_tokenizers.Digits(individual_digits=False)))
    yield "string split", byte_bpe(whole(pre_tokenizers.Split(" ", "merged_with_previous")))
    llama = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    llama2 = with_bytes(train(models.BPE(), bpe(), llama, None, decoders.Sequence([*fallback, decoders.Strip(" ", 1, 0)])))
    llama2.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    yield "llama2", llama2
    yield "gemma", with_bytes(train(models.BPE(), bpe(), normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"),
                                    decoders.Sequence(fallback)))
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            meta = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=cut)
            yield f"metaspace {scheme} {cut}", with_bytes(train(models.BPE(), bpe(), None, meta, decoders.Metaspace(prepend_scheme=scheme)))
    yield "unknown", train(models.BPE(unk_token="<unk>"), bpe(special_tokens=["<unk>"], limit_alphabet=60), None, pre_tokenizers.WhitespaceSplit())
    yield "unknown fused", train(models.BPE(unk_token="<unk>", fuse_unk=True), bpe(special_tokens=["<unk>"], limit_alphabet=60), None,
                                 pre_tokenizers.Whitespace())
    yield "affixes", train(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"),
                           bpe(special_tokens=["<unk>"], continuing_subword_prefix="##", end_of_word_suffix="</w>"), normalizers.Lowercase(),
                           pre_tokenizers.Whitespace())
    for form in (normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase, normalizers.StripAccents, normalizers.Strip):
        tokenizer = byte_bpe(level(add_prefix_space=False))
        tokenizer.normalizer = normalizers.Sequence([form()])
        yield f"normalizer {form.__name__}", tokenizer
    precompiled = byte_bpe(level(add_prefix_space=False))
    precompiled.normalizer = normalizers.Precompiled(charsmap())
    yield "normalizer Precompiled", precompiled
    regex = byte_bpe(level(add_prefix_space=False))
    regex.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("e", "ee")])
    yield "normalizer Replace", regex
    added = byte_bpe(level(add_prefix_space=False))
    added.normalizer = normalizers.Lowercase()
    added.add_tokens([AddedToken("[MASK]", lstrip=True, normalized=False), AddedToken("<extra>", rstrip=True, normalized=True),
                      AddedToken("hello", single_word=True), AddedToken("ell", normalized=False, single_word=True), AddedToken("  ", normalized=False)])
    added.post_processor = processors.Sequence([processors.ByteLevel(), processors.RobertaProcessing(("</s>", 1), ("<s>", 0))])
    yield "added tokens", added
    for fallback_bytes in (False, True):
        unigram = train(models.Unigram(), trainers.UnigramTrainer(vocab_size=2500, show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "<s>"]),
                        None, pre_tokenizers.Metaspace(), decoders.Metaspace())
        if fallback_bytes:
            data = json.loads(unigram.to_str())
            data["model"]["vocab"] += [[f"<0x{byte:02X}>", -30.0] for byte in range(256)]
            data["model"]["byte_fallback"] = True
            unigram = Tokenizer.from_str(json.dumps(data))
        yield f"unigram {fallback_bytes}", unigram


def ours(path, requests, *flags):
    """One answer for each text or list of ids."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([TOOL, path, *flags], input=lines, capture_output=True, text=True, encoding="utf-8", timeout=600)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


class TokenizerJsonPeer(unittest.TestCase):
    def compare(self, name, tokenizer, folder, seed):
        path = pathlib.Path(folder) / "tokenizer.json"
        path.write_text(tokenizer.to_str(), encoding="utf-8")
        texts = tokenizer_corpus.texts(COUNT, seed)
        differ = 0
        for flags, special in ((("--parse-special", "--add-special"), True), ((), False)):
            tokenizer.encode_special_tokens = not special
            for text, got in zip(texts, ours(path, texts, *flags), strict=True):
                try:
                    want = tokenizer.encode(text, add_special_tokens=special).ids
                except Exception as error:  # noqa: BLE001  an error of theirs wants one of ours
                    self.assertIn("error", got, (name, text, error))
                    continue
                if got != want:
                    differ += 1
                    if differ <= 3:
                        print(f"{name} special={special}: {text!r}\n  theirs {want}\n  ours   {got}", flush=True)
                    continue
        tokenizer.encode_special_tokens = False
        ids = [each.ids for each in tokenizer.encode_batch(texts)]
        decoded = 0
        for each, got in zip(ids, ours(path, ids), strict=True):
            want = tokenizer.decode(each, skip_special_tokens=False)
            if "\ufffd" in want:  # theirs is lossy there
                continue
            decoded += 1
            if bytes.fromhex(got).decode("utf-8", "replace") != want:
                differ += 1
                if differ <= 3:
                    print(f"{name} decode {each}\n  theirs {want!r}\n  ours   {bytes.fromhex(got)!r}", flush=True)
        self.assertGreater(decoded, len(texts) // 3, name)
        return differ

    def test_every_kind(self):
        wrong = {}
        with tempfile.TemporaryDirectory() as folder:
            for seed, (name, tokenizer) in enumerate(cases()):
                differ = self.compare(name, tokenizer, folder, seed)
                if differ:
                    wrong[name] = differ
        self.assertEqual(wrong, {})


if __name__ == "__main__":
    sys.exit(unittest.main())
