"""Makes hf-*.json beside this file: small files of PyPI's tokenizers (0.23.3) with texts and the ids that it gives for them.

    pip install tokenizers==0.23.3 && python make.py
"""

import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "peers"))
import tokenizer_corpus  # noqa: E402

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>"]


def bpe(size, **options):
    return trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=SPECIAL, **options)


def frame(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])


def byte_level():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(tokenizer_corpus.training(), bpe(700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    frame(tokenizer)
    return tokenizer


def sentencepiece():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(tokenizer_corpus.training(), bpe(500, limit_alphabet=100))
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    data["model"].update(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    frame(tokenizer)
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    lines = ["".join(c for c in line if ord(c) < 0x250) for line in tokenizer_corpus.training()]
    tokenizer.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=600, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]))
    return tokenizer


def added():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Whitespace()])
    tokenizer.train_from_iterator(tokenizer_corpus.training(), bpe(400, limit_alphabet=120))
    tokenizer.add_tokens([AddedToken("[MASK]", lstrip=True, normalized=False), AddedToken("<extra>", rstrip=True, normalized=True),
                          AddedToken("hello", single_word=True), AddedToken("  ", normalized=False)])
    frame(tokenizer)
    return tokenizer


for make in (byte_level, sentencepiece, unigram, added):
    tokenizer = make()
    cases = []
    for text in tokenizer_corpus.texts(120, 5):
        tokenizer.encode_special_tokens = True
        case = {"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids}
        tokenizer.encode_special_tokens = False
        case["special"] = tokenizer.encode(text).ids
        decoded = tokenizer.decode(case["special"], skip_special_tokens=True)
        if "\ufffd" not in decoded:
            case["decoded"] = decoded
        cases.append(case)
    name = f"hf-{make.__name__.replace('_', '-')}"
    data = json.loads(tokenizer.to_str())
    (HERE / f"{name}.tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    (HERE / f"{name}.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n", encoding="utf-8")
