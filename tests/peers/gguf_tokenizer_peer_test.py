"""The tokenizer in a GGUF's keys: every vocabulary of llama.cpp gives its own test texts' ids or is refused by name; SmolLM2's gives
the ids that llama.cpp and Hugging Face gave (tests/goldens), and on a fuzzed corpus those of its published pipeline by PyPI's tokenizers."""

import json
import os
import pathlib
import subprocess
import sys
import unicodedata
import unittest

import peers

TOOL = pathlib.Path(os.environ.get("SLUICE_BUILD", peers.SOURCE / "build" / "release")) / "tokenize_lines"
if not os.access(TOOL, os.X_OK):
    peers.skip(f"no program at {TOOL}")
peers.enter()

import gguf  # noqa: E402
import tokenizer_corpus  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

GOLDENS = peers.SOURCE / "tests" / "goldens" / "inference"
VOCABULARIES = peers.FOLDER / "vocabularies"
REFUSED = {"bert-bge": "bert", "nomic-bert-moe": "t5", "gemma-4": "gemma4"}  # tokenizer.ggml.model
WITHOUT_TEXTS = {"aquila", "baichuan", "gpt-neox"}
SEPARATOR = "\n__ggml_vocab_test__\n"


def ours(path, requests, *flags):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    return subprocess.run([TOOL, path, *flags], input=lines, capture_output=True, text=True, encoding="utf-8", timeout=600)


def answers(path, requests, *flags):
    done = ours(path, requests, *flags)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Vocabularies(unittest.TestCase):
    def test_each_gives_its_ids_or_is_refused_by_name(self):
        equal = set()
        for path in sorted(VOCABULARIES.glob("ggml-vocab-*.gguf")):
            name = path.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
            if name in REFUSED:
                done = ours(path, ["a"])
                self.assertEqual(done.returncode, 2, name)
                self.assertIn(f'tokenizer.ggml.model: is "{REFUSED[name]}", which is not supported yet', done.stderr)
                continue
            if name in WITHOUT_TEXTS:
                texts = tokenizer_corpus.texts(200, 3)
                for text, ids in zip(texts, answers(path, texts), strict=True):
                    self.assertIsInstance(ids, list, (name, text))
                continue
            # Newlines as they are: some texts have carriage returns.
            texts = pathlib.Path(f"{path}.inp").read_bytes().decode().split(SEPARATOR)
            lines = pathlib.Path(f"{path}.out").read_text().splitlines()
            wanted = [[int(each) for each in line.split()] for line in lines]
            self.assertGreater(len(wanted), 40)
            for text, want, got in zip(texts, wanted, answers(path, texts)):
                self.assertEqual(got, want, (name, text))
            equal.add(name)
        self.assertGreaterEqual(
            equal, {"llama-spm", "phi-3", "llama-bpe", "qwen2", "gpt-2", "deepseek-llm", "deepseek-coder", "falcon", "refact", "starcoder", "mpt", "command-r"})


class SmolLM2(unittest.TestCase):
    def setUp(self):
        self.model = peers.smollm2_gguf()

    def test_the_goldens(self):
        names = ("prose", "code", "multilingual")
        texts = [(GOLDENS / "texts" / f"{name}.txt").read_bytes().decode() for name in names]
        for name, got in zip(names, answers(self.model, texts), strict=True):
            self.assertEqual(got, json.loads((GOLDENS / "smollm2" / f"tokens-{name}.json").read_text())["llama_cpp"], name)
        cases = json.loads((GOLDENS / "tokenizer" / "smollm2.json").read_text(encoding="utf-8"))
        texts = [case["text"] for case in cases]
        ids = [case["ids"] for case in cases]
        self.assertEqual(answers(self.model, texts, "--parse-special"), ids)
        self.assertEqual(answers(self.model, texts), [case.get("llama_cpp_plain", case["ids"]) for case in cases])
        decoded = [bytes.fromhex(each).decode() for each in answers(self.model, ids)]
        self.assertEqual(decoded, [case.get("decoded", case["text"]) for case in cases])

    def test_a_fuzzed_corpus_against_the_published_pipeline(self):
        fields = {key: field.contents() for key, field in gguf.GGUFReader(self.model).fields.items() if key.startswith("tokenizer.")}
        pieces, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
        theirs = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
        theirs.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        theirs.decoder = decoders.ByteLevel()
        theirs.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece, kind in zip(pieces, types) if kind == 3])
        texts = tokenizer_corpus.texts(int(os.environ.get("SLUICE_PEER_TEXTS", "20000")), 77)
        wanted = [each.ids for each in theirs.encode_batch(texts, add_special_tokens=False)]
        differ = compared = 0
        for text, want, got in zip(texts, wanted, answers(self.model, texts, "--parse-special"), strict=True):
            # Eight bytes have no token. Both drop them, but where one was, theirs joins the neighbours and llama.cpp does not.
            if theirs.decode(want, skip_special_tokens=False) != text:
                continue
            # llama.cpp's tables are of Unicode 15.1, and so are ours for its files; tokenizers' are newer.
            if any(unicodedata.category(c) == "Cn" for c in text):
                continue
            compared += 1
            differ += want != got
        self.assertEqual(differ, 0)
        self.assertGreater(compared, len(texts) // 2)


if __name__ == "__main__":
    sys.exit(unittest.main())
