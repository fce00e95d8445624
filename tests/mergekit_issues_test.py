"""What people ask of mergekit in its issues, each guarded by a test with the issue's number. Others of them stand beside the code:
dropped tensors (699, 674), ignored dtypes (604, 316), GPTQ models (75) and LoRA (470, 521) in src/merge's and the adapters' tests;
the order of disk and arithmetic (329: one core used) is measured in bench/."""

import json
import os
import subprocess

import budgets
import cli_models
from cli_models import Case, read_safetensors, recipe_text, shapes, sluice, write_gguf, write_model, write_sparse_model


def tokenizer_of(folder, words, added=()):
    vocabulary = {word: place for place, word in enumerate(words)}
    tokens = [{"id": place, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
              for place, word in added]
    (folder / "tokenizer.json").write_text(json.dumps(
        {"version": "1.0", "added_tokens": tokens, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}))


class Issues(Case):
    def recipe(self, text):
        path = self.dir / "r.yml"
        path.write_text(text)
        return path

    def test_107_549_memory_does_not_grow_with_models_or_size(self):
        # Twelve parents of 48 MB: more than the budget holds of any two.
        names = [f"m{i}" for i in range(12)]
        for name in names:
            rows = 12_000
            folder = self.dir / name
            write_sparse_model(folder, 1)
            text = json.dumps({"w": {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, rows * 4096]}}).encode()
            with open(folder / "model.safetensors", "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                file.truncate(8 + len(text) + rows * 4096)
        recipe = self.recipe(recipe_text("ties", "m0", [(name, {"weight": 0.1, "density": 0.5}) for name in names[1:]], dtype="float32"))
        result = self.run_ok("merge", recipe, "-o", self.dir / "out", "--max-memory", budgets.mebibytes(160), "--threads", "2", "--json").json()
        self.assertLessEqual(result["peak_memory_bytes"], (160 + budgets.SANITIZER_MIB) << 20)
        self.assertGreater(result["bytes_read"], 12 * 48_000_000)

    def test_20_35_how_much_memory_and_disk_is_told_before(self):
        for name in ("base", "tune"):
            write_model(self.dir / name, update_seed=len(name))
        recipe = self.recipe(recipe_text("ties", "base", [("tune", {"weight": 1, "density": 0.5})]))
        planned = self.run_ok("merge", recipe, "-o", self.dir / "out", "--dry-run", "--json").json()
        self.assertFalse((self.dir / "out").exists())
        plan = planned["plan"]
        for key in ("bytes_read", "peak_memory_bytes", "seconds"):
            self.assertGreater(plan[key], 0, key)
        done = self.run_ok("merge", recipe, "-o", self.dir / "out", "--json").json()
        self.assertLessEqual(done["bytes_read"], plan["bytes_read"])
        text = sluice("merge", recipe, "-o", self.dir / "again", "--dry-run")
        self.assertIn("memory", text.out + text.err)

    def test_329_all_threads_that_are_asked_for_are_planned(self):
        write_model(self.dir / "base")
        recipe = self.recipe(recipe_text("linear", None, [("base", {"weight": 1})]))
        for threads in (1, 3):
            plan = self.run_ok("merge", recipe, "-o", self.dir / "out", "--dry-run", "--json", "--threads", threads).json()["plan"]
            self.assertEqual(plan["threads"], threads)

    def test_388_opening_reads_headers_alone(self):
        write_sparse_model(self.dir / "huge", 600)  # gigabytes: reading them would take minutes
        recipe = self.recipe(recipe_text("linear", None, [("huge", {"weight": 1})], dtype="float32"))
        result = self.run_ok("merge", recipe, "--check", "--max-memory", budgets.mebibytes(64))
        self.assertEqual(result.status, 0)
        self.assertEqual(self.run_ok("inspect", self.dir / "huge", "--json").json()["parameters"] // 10**9, 150)

    def test_527_all_errors_come_before_any_work(self):
        write_model(self.dir / "base")
        recipe = self.recipe(recipe_text("ties", "base", [("absent-one", {"weight": 1}), ("absent-two", {"weights": 1})]))
        for arguments in (("--check",), ("-o", self.dir / "out")):
            result = sluice("merge", recipe, *arguments)
            self.assertEqual(result.status, 2)
            for word in ("absent-one", "absent-two", "weights"):
                self.assertIn(word, result.err)
        self.assertFalse((self.dir / "out").exists())

    def test_562_632_the_output_has_the_size_of_its_tensors(self):
        write_model(self.dir / "base", dtype="F32", shards=3)
        write_model(self.dir / "tune", dtype="F32", update_seed=2)
        recipe = self.recipe(recipe_text("linear", None, [("base", {"weight": 1}), ("tune", {"weight": 1})]))
        self.run_ok("merge", recipe, "-o", self.dir / "out")
        tensors = read_safetensors(self.dir / "out" / "model.safetensors")
        self.assertEqual({name: shape for name, (_, shape, _) in tensors.items()}, shapes())
        for name, (dtype, shape, data) in tensors.items():
            self.assertEqual((dtype, len(data)), ("BF16", 2 * cli_models.product(shape)), name)
        inspected = self.run_ok("inspect", self.dir / "out", "--json").json()
        self.assertEqual(inspected["parameters"], inspected["parameters_from_config"])

    def test_494_a_gguf_is_a_parent(self):
        write_gguf(self.dir / "base.gguf", quantised=False)
        write_model(self.dir / "base", dtype="F32")
        roots = []
        for parent in ("base.gguf", "base"):
            recipe = self.recipe(recipe_text("linear", None, [(parent, {"weight": 1})]))
            roots.append(self.run_ok("digest", recipe, "--json").json()["weights_root"])
        self.assertEqual(*roots)

    def test_47_139_342_other_vocabularies_are_never_mixed_by_row_number(self):
        write_model(self.dir / "base")
        write_model(self.dir / "more", vocab=44)
        recipe = self.recipe(recipe_text("linear", None, [("base", {"weight": 1}), ("more", {"weight": 1})]))
        self.run_fails(2, ["embed_tokens", "[40,", "[44,", "tokenizer"], "merge", recipe, "-o", self.dir / "out")
        self.assertFalse((self.dir / "out").exists())

    def test_425_a_union_keeps_every_token_and_every_row(self):
        words = [f"w{i}" for i in range(40)]
        base, more = write_model(self.dir / "base"), write_model(self.dir / "more", vocab=42, update_seed=3)
        tokenizer_of(base, words)
        tokenizer_of(more, words, [(40, "<|a|>"), (41, "<|b|>")])
        recipe = self.recipe("tokenizer_source: union\n" + recipe_text("linear", "base", [("base", {"weight": 1}), ("more", {"weight": 1})]))
        self.run_ok("merge", recipe, "-o", self.dir / "out")
        self.assertEqual(read_safetensors(self.dir / "out" / "model.safetensors")["lm_head.weight"][1][0], 42)
        self.assertEqual(json.loads((self.dir / "out" / "config.json").read_text())["vocab_size"], 42)
        table = json.loads((self.dir / "out" / "tokenizer.json").read_text())
        self.assertEqual(len(table["model"]["vocab"]) + len(table["added_tokens"]), 42)

    def test_428_tokens_beyond_64000_keep_their_rows(self):
        words = [f"w{i}" for i in range(64_000)]
        base, tune = (write_model(self.dir / name, vocab=rows, hidden=4, update_seed=seed)
                      for name, rows, seed in (("base", 64_000, 0), ("tune", 64_002, 3)))
        tokenizer_of(base, words)
        tokenizer_of(tune, words, [(64_000, "<|im_start|>"), (64_001, "<|im_end|>")])
        recipe = self.recipe("tokenizer_source: union\n" + recipe_text("linear", "base", [("base", {"weight": 0}), ("tune", {"weight": 1})]))
        self.run_ok("merge", recipe, "-o", self.dir / "out")
        merged, alone = (read_safetensors(self.dir / name / "model.safetensors")["model.embed_tokens.weight"] for name in ("out", "tune"))
        self.assertEqual(merged[1], [64_002, 4])
        self.assertEqual(merged[2][-16:], alone[2][-16:])  # the rows of the two, which only the fine-tune has
        added = json.loads((self.dir / "out" / "tokenizer.json").read_text())["added_tokens"]
        self.assertEqual([(token["id"], token["content"]) for token in added], [(64_000, "<|im_start|>"), (64_001, "<|im_end|>")])

    def test_609_della_in_float16_makes_numbers(self):
        write_model(self.dir / "base", dtype="F16")
        write_model(self.dir / "tune", dtype="F16", update_seed=2)
        recipe = self.recipe(recipe_text("della", "base", [("tune", {"weight": 1, "density": 0.6, "epsilon": 0.1})], dtype="float16"))
        for arithmetic in ("exact", "mergekit"):
            result = self.run_ok("merge", recipe, "-o", self.dir / arithmetic, "--arithmetic", arithmetic, "--nan", "refuse", "--json").json()
            self.assertEqual(result["nan"], [])
            # No number lies far outside of what base and update together reach.
            changed = self.run_ok("verify", "base", arithmetic, "--level", "tensors", "--json", cwd=self.dir, status=1).json()["tensors"]
            self.assertTrue(changed)
            for tensor in changed:
                self.assertLess(tensor["max_abs"], 0.5, tensor["name"])

    def test_681_needs_nothing_but_itself(self):
        write_model(self.dir / "base")
        recipe = self.recipe(recipe_text("linear", None, [("base", {"weight": 1})]))
        done = subprocess.run([os.environ["SLUICE"], "merge", str(recipe), "-o", str(self.dir / "out")], env={}, cwd="/",
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    cli_models.main()
