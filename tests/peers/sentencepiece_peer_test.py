"""tokenizer.model against PyPI's sentencepiece: small models of both kinds and all normalisations are trained here, and the ids of a
fuzzed corpus must be the same, and so must the text that they decode to."""

import io
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

import sentencepiece  # noqa: E402
import tokenizer_corpus  # noqa: E402

COUNT = int(os.environ.get("SLUICE_PEER_TEXTS", "3000"))
CASES = {
    "unigram": dict(model_type="unigram"),
    "unigram bytes": dict(model_type="unigram", byte_fallback=True),
    "unigram identity": dict(model_type="unigram", normalization_rule_name="identity", remove_extra_whitespaces=False),
    "unigram user": dict(model_type="unigram", user_defined_symbols=["<extra>", "hello", "12"], normalization_rule_name="nfkc"),
    "unigram suffix": dict(model_type="unigram", treat_whitespace_as_suffix=True),
    "unigram no dummy": dict(model_type="unigram", add_dummy_prefix=False, normalization_rule_name="nmt_nfkc_cf"),
    "bpe": dict(model_type="bpe"),
    "bpe llama": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True),
    "bpe bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="nfkc_cf"),
    "bpe user": dict(model_type="bpe", user_defined_symbols=["<extra>", "hello", "12", "  "], remove_extra_whitespaces=False),
    "bpe across words": dict(model_type="bpe", split_by_whitespace=False),
    "bpe gemma": dict(model_type="bpe", byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
}


def ours(path, requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([TOOL, path], input=lines, capture_output=True, text=True, encoding="utf-8", timeout=600)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


class SentencePiecePeer(unittest.TestCase):
    def test_every_kind(self):
        lines = [line.replace("\0", "") for line in tokenizer_corpus.training()]
        wrong = {}
        for seed, (name, options) in enumerate(CASES.items()):
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=model, vocab_size=1700, character_coverage=0.98, minloglevel=2, **options)
            theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
            texts = tokenizer_corpus.texts(COUNT, 100 + seed)
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "tokenizer.model"
                path.write_bytes(model.getvalue())
                ids = [theirs.encode(text) for text in texts]
                for text, want, got in zip(texts, ids, ours(path, texts), strict=True):
                    if want == got:
                        continue
                    wrong[name] = wrong.get(name, 0) + 1
                    if wrong[name] <= 3:
                        print(f"{name}: {text!r}\n  theirs {want}\n  ours   {got}", flush=True)
                for each, got in zip(ids, ours(path, ids), strict=True):
                    want = theirs.decode(each)
                    if theirs.unk_id() in each or "suffix" in name or "\ufffd" in want:  # they write another text there, or a lossy one
                        continue
                    if bytes.fromhex(got).decode("utf-8", "replace") != want:
                        wrong[f"{name} decode"] = wrong.get(f"{name} decode", 0) + 1
                        if wrong[f"{name} decode"] <= 2:
                            print(f"{name}: decode {each}\n  theirs {want!r}\n  ours   {bytes.fromhex(got)!r}", flush=True)
        # Sums of scores that differ in the last bit of a float: after a user-defined symbol theirs rounds in a way not known here, and
        # the order of equal characters' pieces may change ("zz z" or "z zz").
        self.assertLess(wrong.pop("unigram user", 0), COUNT // 100)
        self.assertEqual(wrong, {})


if __name__ == "__main__":
    sys.exit(unittest.main())
