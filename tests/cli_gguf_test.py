"""`sluice convert REF -o X.gguf`: what is written, what comes back, and what is refused."""

import json
import pathlib
import shutil

import budgets
import cli_models
from cli_models import Case, write_gguf, write_model

TOKENIZERS = pathlib.Path(__file__).resolve().parent / "goldens" / "inference" / "tokenizer"
TEXTS = ["Hello, wörld!  It's 1234567.", "  \n\n tabs\there\r\n", "日本語 テスト 😀 नमस्ते", "def f(x):\n    return x**2  # ok"]


class Gguf(Case):
    def convert(self, ref, name, *more):
        out = self.dir / name
        return out, self.run_ok("convert", ref, "-o", out, *more, "--json").json()

    def root(self, ref, field="root"):
        return self.run_ok("digest", ref, "--json").json()[field]

    def with_tokenizer(self, name, rows, *files):
        model = write_model(self.dir / name, tokenizer=False, vocab=rows)
        for golden, file in files:
            shutil.copy(TOKENIZERS / golden, model / file)
        return model

    def ids(self, ref, text):
        return self.run_ok("tokenize", ref, "--text", text, "--json").json()["ids"]


class Written(Gguf):
    def test_the_root_is_that_of_the_file(self):
        for shards, dtype in ((1, []), (3, ["--dtype", "float16"]), (1, ["--dtype", "float32"]), (1, ["--dtype", "q8_0"])):
            model = write_model(self.dir / f"model{shards}{len(dtype)}{dtype[-1:]}", shards=shards, tokenizer=False)
            out, told = self.convert(model, model.name + ".gguf", *dtype)
            self.assertEqual(told["root"], self.root(out))
            self.assertEqual([file["file"] for file in told["files"]], [out.name])
            self.assertEqual(told["files"][0]["bytes"], out.stat().st_size)

    def test_a_folder_comes_back_with_equal_numbers(self):
        model = write_model(self.dir / "model", tokenizer=False)
        out, _ = self.convert(model, "model.gguf")
        told = self.run_ok("verify", model, out, "--level", "tensors", "--json", status=0).json()
        self.assertEqual(told["verdict"], "EQUAL_AFTER_CAST")  # norms are F32 in every GGUF

    def test_a_gguf_comes_back_bit_for_bit_through_a_folder(self):
        for dtype in ("float32", "float16", "bfloat16"):
            model = write_model(self.dir / f"{dtype}-of" / "x", tokenizer=False)
            first, told = self.convert(model, f"{dtype}/x.gguf", "--dtype", dtype)
            folder, there = self.convert(first, f"{dtype}/x")
            again, back = self.convert(folder, f"{dtype}/again/x.gguf")
            self.assertEqual(first.read_bytes(), again.read_bytes())
            self.assertEqual(back["root"], told["root"])
            self.assertEqual(there["root"], told["root"])

    def test_a_gguf_keeps_its_blocks_and_tokenizer(self):
        first = self.dir / "quantised.gguf"
        write_gguf(first)
        out, told = self.convert(first, "copy.gguf")
        self.assertEqual(told["root"], self.root(first))
        self.assertEqual(self.run_ok("verify", first, out, "--json").json()["verdict"], "IDENTICAL")

    def test_a_recipe_is_written_without_a_folder_between(self):
        base, tune = write_model(self.dir / "base", tokenizer=False), write_model(self.dir / "tune", update_seed=2, tokenizer=False)
        recipe = self.dir / "recipe.yml"
        recipe.write_text(cli_models.recipe_text("task_arithmetic", base, [(tune, {"weight": 0.5})]))
        out, told = self.convert(recipe, "merged.gguf")
        merged = self.dir / "merged"
        self.run_ok("merge", recipe, "-o", merged)
        self.assertEqual(told["root"], self.convert(merged, "again.gguf")[1]["root"])
        self.assertEqual(self.run_ok("verify", merged, out, "--level", "tensors", "--json").json()["verdict"], "EQUAL_AFTER_CAST")

    def test_yis_first_releases_are_llamas(self):
        llama = write_model(self.dir / "x", tokenizer=False)
        yi = self.dir / "yi" / "x"
        self.run_ok("convert", llama, "-o", yi, "--rename", "model.layers.*.input_layernorm.weight=model.layers.*.ln1.weight",
                    "--rename", "model.layers.*.post_attention_layernorm.weight=model.layers.*.ln2.weight",
                    "--set", 'architectures=["YiForCausalLM"]', "--set", "model_type=Yi")
        files = [self.convert(ref, f"{i}/x.gguf")[0].read_bytes() for i, ref in enumerate((llama, yi))]
        self.assertEqual(files[0], files[1])

    def test_any_budget_gives_the_same_bytes(self):
        model = write_model(self.dir / "model", tokenizer=False)
        files = [self.convert(model, f"{i}/x.gguf", "--dtype", "q8_0", *how)[0].read_bytes()
                 for i, how in enumerate(([], ["--threads", "1"], ["--max-memory", budgets.mebibytes(48)]))]
        self.assertEqual(files[0], files[1])
        self.assertEqual(files[0], files[2])

    def test_a_dry_run_writes_nothing(self):
        model = write_model(self.dir / "model", tokenizer=False)
        result = self.run_ok("convert", model, "-o", self.dir / "x.gguf", "--dry-run")
        self.assertIn("write", result.out + result.err)
        self.assertFalse((self.dir / "x.gguf").exists())


class Tokenizers(Gguf):
    def test_every_kind_gives_the_ids_of_the_folder(self):
        for name, rows, files, kind in (
                ("bytes", 704, [("hf-byte-level.tokenizer.json", "tokenizer.json")], "gpt2"),
                ("characters", 760, [("hf-sentencepiece.tokenizer.json", "tokenizer.json")], "llama"),
                ("sentencepiece", 1400, [("spm-bpe.model", "tokenizer.model")], "llama")):
            with self.subTest(name):
                model = self.with_tokenizer(name, rows, *files)
                (model / "chat_template.jinja").write_text("{{ messages }}")
                result = self.run_ok("convert", model, "-o", self.dir / f"{name}.gguf")
                self.assertNotIn("no tokenizer", result.err)
                for text in TEXTS:
                    self.assertEqual(self.ids(self.dir / f"{name}.gguf", text), self.ids(model, text), text)
                told = self.run_ok("inspect", self.dir / f"{name}.gguf", "--json").json()
                self.assertEqual(told["tokenizer"]["size"], rows)
                self.assertEqual(told["chat_template"], f"{name}.gguf")
                self.assertIn(kind.encode(), (self.dir / f"{name}.gguf").read_bytes())

    def test_what_gguf_has_no_kind_for_is_left_out_and_told(self):
        for name, files, words in (
                ("unigram", [("hf-unigram.tokenizer.json", "tokenizer.json")], "model.type: is unigram, not bpe"),
                ("added", [("hf-added.tokenizer.json", "tokenizer.json")], "without bytes to fall back to"),
                ("none", [], "there is no tokenizer beside the weights")):
            with self.subTest(name):
                result = self.run_ok("convert", self.with_tokenizer(name, 800, *files), "-o", self.dir / f"{name}.gguf")
                self.assertIn("the output has no tokenizer: ", result.err)
                self.assertIn(words, result.err.lower())


    def test_a_merge_has_the_tokenizer_of_its_base(self):
        base = self.with_tokenizer("base", 760, ("hf-byte-level.tokenizer.json", "tokenizer.json"))
        other = self.with_tokenizer("other", 760, ("hf-sentencepiece.tokenizer.json", "tokenizer.json"))
        refs = [self.convert(model, model.name + ".gguf")[0] for model in (other, base)]
        recipe = self.dir / "recipe.yml"
        recipe.write_text(cli_models.recipe_text("task_arithmetic", refs[1], [(refs[0], {"weight": 0.5})]))
        self.run_ok("merge", recipe, "-o", self.dir / "merged")
        for text in TEXTS:
            for ref in (recipe, self.dir / "merged"):
                self.assertEqual(self.ids(ref, text), self.ids(base, text))
        self.assertEqual(self.root(recipe), self.root(self.dir / "merged"))
        self.assertEqual(self.run_ok("verify", self.dir / "merged", recipe, "--json").json()["verdict"], "IDENTICAL")


class Refused(Gguf):
    def test_bad_input(self):
        model = write_model(self.dir / "model", tokenizer=False)
        out = self.dir / "x.gguf"
        self.run_fails(2, ["--out-shard-size is for folders", "x.gguf"], "convert", model, "-o", out, "--out-shard-size", "1GB")
        self.run_fails(2, ["--dtype q4_k", "q8_0"], "convert", model, "-o", out, "--dtype", "q4_k")
        self.run_fails(2, ["--dtype q8_0"], "convert", model, "-o", self.dir / "folder", "--dtype", "q8_0")
        mamba = write_model(self.dir / "mamba", tokenizer=False, config={"architectures": ["MambaForCausalLM"], "model_type": "mamba"})
        self.run_fails(2, ["MambaForCausalLM cannot be written as GGUF yet"], "convert", mamba, "-o", out)
        short = write_model(self.dir / "short", tokenizer=False, drop=("model.norm.weight",))
        self.run_fails(3, ["model.norm.weight", "is missing"], "convert", short, "-o", out)
        more = write_model(self.dir / "more", tokenizer=False, extra={"model.extra.weight": ("BF16", [1], bytes(2))})
        self.run_fails(2, ["model.extra.weight", "leaving it out would change the model"], "convert", more, "-o", out)
        dynamic = write_model(self.dir / "dynamic", tokenizer=False, config={"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})
        self.run_fails(2, ["rope_type", "dynamic", "no keys"], "convert", dynamic, "-o", out)
        alone = write_model(self.dir / "alone", tokenizer=False) / "model.safetensors"
        (alone.parent / "config.json").unlink()
        self.run_fails(2, ["has no config.json"], "convert", alone, "-o", out)
        self.assertFalse(out.exists())

    def test_an_output_that_exists_stays(self):
        model, out = write_model(self.dir / "model", tokenizer=False), self.dir / "x.gguf"
        out.write_bytes(b"mine")
        self.run_fails(2, ["x.gguf", "--force"], "convert", model, "-o", out)
        self.assertEqual(out.read_bytes(), b"mine")
        self.run_ok("convert", model, "-o", out, "--force")
        self.assertEqual(out.read_bytes()[:4], b"GGUF")

    def test_a_merge_is_a_folder(self):
        base = write_model(self.dir / "base", tokenizer=False)
        recipe = self.dir / "recipe.yml"
        recipe.write_text(cli_models.recipe_text("linear", None, [(base, {"weight": 1})]))
        self.run_fails(2, ["a merge is a folder", "sluice convert"], "merge", recipe, "-o", self.dir / "x.gguf")


if __name__ == "__main__":
    cli_models.main()
