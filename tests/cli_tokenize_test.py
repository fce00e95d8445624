"""`sluice tokenize`: text to ids and back, from each kind of file, and what it refuses."""

import json
import pathlib
import shutil

import cli_models
from cli_models import Case, sluice

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens" / "inference" / "tokenizer"
GPT2 = GOLDENS / "ggml-vocab-gpt-2.gguf"
SPM = GOLDENS / "ggml-vocab-llama-spm.gguf"


class Tokenize(Case):
    def test_text_to_ids_and_pieces(self):
        result = self.run_ok("tokenize", GPT2, "--text", "Hello world", "--json").json()
        self.assertEqual(result, {"schema": "sluice/tokenize/v1", "ids": [15496, 995], "pieces": ["Hello", "Ġworld"]})
        text = self.run_ok("tokenize", GPT2, "--text", "Hello world").out
        self.assertIn("15496  Hello\n", text)
        self.assertTrue(text.endswith("2 tokens\n"))

    def test_ids_to_text(self):
        self.assertEqual(self.run_ok("tokenize", GPT2, "--decode", "15496 995").out, "Hello world\n")
        result = self.run_ok("tokenize", GPT2, "--decode", "15496,995", "0", "--json").json()
        self.assertEqual((result["ids"], result["text"]), ([15496, 995, 0], "Hello world!"))
        half = self.run_ok("tokenize", GPT2, "--decode", "447", "--json").json()  # two bytes of three
        self.assertEqual(half["text"], "\ufffd\ufffd")

    def test_special_tokens_are_text_unless_asked(self):
        plain = self.run_ok("tokenize", SPM, "--text", "<s>a", "--json").json()["ids"]
        self.assertEqual(self.run_ok("tokenize", SPM, "--text", "<s>a", "--parse-special", "--json").json()["ids"], [1, 263])
        self.assertGreater(len(plain), 3)
        framed = self.run_ok("tokenize", SPM, "--text", "a", "--add-special", "--json").json()["ids"]
        self.assertEqual(framed, [1, 263])
        self.assertEqual(self.run_ok("tokenize", SPM, "--decode", "1 263", "--skip-special").out, "a\n")

    def test_a_folder_and_a_file_byte_for_byte(self):
        model = self.dir / "model"
        cli_models.write_model(model)
        other = cli_models.write_model(self.dir / "other", update_seed=1)
        shutil.copy(GOLDENS / "hf-byte-level.tokenizer.json", model / "tokenizer.json")
        goldens = json.loads((GOLDENS / "hf-byte-level.json").read_text(encoding="utf-8"))
        golden = next(each for each in goldens if each["text"].startswith("def f(x)"))
        text = self.dir / "text.txt"
        text.write_bytes(golden["text"].encode())
        recipe = self.dir / "recipe.yml"
        recipe.write_text(cli_models.recipe_text("task_arithmetic", model, [(other, {"weight": 1})]))
        for ref in (model, model / "tokenizer.json", recipe):
            self.assertEqual(self.run_ok("tokenize", ref, "--file", text, "--json").json()["ids"], golden["ids"])
            framed = self.run_ok("tokenize", ref, "--file", text, "--add-special", "--parse-special", "--json").json()["ids"]
            self.assertEqual(framed, golden["special"])

    def test_what_is_refused(self):
        empty, wrong, tokenizer = self.dir / "empty.txt", self.dir / "wrong.txt", self.dir / "tokenizer.json"
        empty.write_bytes(b"")
        wrong.write_bytes(b"caf\xe9")
        tokenizer.write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
        self.run_fails(2, ["nothing to tokenize: give --text, --file or --decode"], "tokenize", GPT2)
        self.run_fails(2, ["only one of"], "tokenize", GPT2, "--text", "a", "--decode", "1")
        self.run_fails(2, ["--text is empty"], "tokenize", GPT2, "--text", "")
        self.run_fails(2, [str(empty), "is empty"], "tokenize", GPT2, "--file", empty)
        self.run_fails(3, [str(wrong), "is not UTF-8 at byte 3"], "tokenize", GPT2, "--file", wrong)
        self.run_fails(2, ["--decode wants ids", '"1 x"'], "tokenize", GPT2, "--decode", "1 x")
        self.run_fails(2, ["there is no token 50257", "ids are below 50257"], "tokenize", GPT2, "--decode", "50257")
        self.run_fails(2, [str(tokenizer), "model.type", "is WordPiece, which is not supported yet"], "tokenize", tokenizer, "--text", "a")
        self.run_fails(3, ["no such"], "tokenize", self.dir / "none.gguf", "--text", "a")
        self.assertEqual(sluice("tokenize", GPT2, "--text", "a").status, 0)


if __name__ == "__main__":
    cli_models.main()
