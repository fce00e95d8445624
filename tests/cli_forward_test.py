"""`sluice logits` and `sluice perplexity` from the command line: models, recipes, budgets, bad input."""

import json
import math
import random
import re
import struct

import budgets
from cli_models import Case, main, read_safetensors, recipe_text, write_model, write_safetensors

VOCAB = 256
TEXT = "The river runs past the mill; the gate never opens wider than it must.\n" * 40


def byte_tokenizer():
    """tokenizer.json of single bytes, in GPT-2's alphabet."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    alphabet = {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": {alphabet[byte]: byte for byte in range(256)}, "merges": []}})


def write_ids(path, sequences):
    flat = [i for sequence in sequences for i in sequence]
    write_safetensors(path, {"input_ids": ("I64", [len(sequences), len(sequences[0])], struct.pack(f"<{len(flat)}q", *flat))})
    return path


class Forward(Case):
    def setUp(self):
        super().setUp()
        self.base = self.model("base")
        self.tune = self.model("tune", update_seed=7)
        self.text = self.dir / "text.txt"
        self.text.write_text(TEXT)
        generator = random.Random(3)
        self.ids = write_ids(self.dir / "ids.safetensors", [[generator.randrange(VOCAB) for _ in range(50)] for _ in range(3)])

    def model(self, name, **how):
        folder = write_model(self.dir / name, vocab=VOCAB, **how)
        (folder / "tokenizer.json").write_text(byte_tokenizer())
        return folder

    def recipe(self):
        path = self.dir / "recipe.yml"
        path.write_text(recipe_text("dare_ties", "base", [("base", {}), ("tune", {"weight": 0.6, "density": 0.5})]))
        return path

    def logits(self, ref, *more):
        out = self.dir / "out.safetensors"
        self.run_ok("logits", ref, "--ids", self.ids, "-o", out, "--force", *more)
        dtype, shape, data = read_safetensors(out)["logits"]
        self.assertEqual(dtype, "F32")
        return shape, data


class Logits(Forward):
    def test_shape_and_the_same_bytes_at_any_threads_and_budget(self):
        shape, data = self.logits(self.base, "--threads", "1")
        self.assertEqual(shape, [3, 50, VOCAB])
        self.assertFalse(any(math.isnan(value) for value in struct.unpack(f"<{len(data) // 4}f", data)))
        for more in (["--threads", "3"], ["--max-memory", budgets.mebibytes(64)], ["--max-memory", "4GiB", "--threads", "2"]):
            self.assertEqual(self.logits(self.base, *more), (shape, data), more)

    def test_last_is_the_last_row(self):
        _, data = self.logits(self.base)
        shape, last = self.logits(self.base, "--last")
        self.assertEqual(shape, [3, 1, VOCAB])
        row = 4 * VOCAB
        self.assertEqual(last, b"".join(data[(50 * i + 49) * row : (50 * i + 50) * row] for i in range(3)))

    def test_a_recipe_gives_the_bytes_of_the_merge_that_it_writes(self):
        recipe = self.recipe()
        self.run_ok("merge", recipe, "-o", self.dir / "merged", cwd=self.dir)
        self.assertEqual(self.logits(recipe), self.logits(self.dir / "merged"))
        self.assertNotEqual(self.logits(recipe), self.logits(self.base))

    def test_json_and_dry_run(self):
        out = self.dir / "l.safetensors"
        result = self.run_ok("logits", self.base, "--ids", self.ids, "-o", out, "--json").json()
        self.assertEqual(result["schema"], "sluice/logits/v1")
        self.assertEqual(result["tokens"], 150)
        self.assertIn("seconds", result)
        out.unlink()
        plan = self.run_ok("logits", self.base, "--ids", self.ids, "-o", out, "--dry-run", "--json").json()["plan"]
        self.assertEqual(plan["tokens"], 150)
        self.assertFalse(out.exists())

    def test_text_needs_the_tokenizer(self):
        out = self.dir / "l.safetensors"
        self.assertEqual(self.run_ok("logits", self.base, "--text", self.text, "-o", out, "--json").json()["tokens"], len(TEXT))
        (self.base / "tokenizer.json").unlink()
        self.run_fails(3, ["tokenizer"], "logits", self.base, "--text", self.text, "-o", out, "--force")

    def test_bad_input(self):
        out = self.dir / "l.safetensors"
        empty = self.dir / "empty.txt"
        empty.write_text("")
        wrong = self.dir / "wrong.txt"
        wrong.write_bytes(b"good \xff bad")
        beyond = write_ids(self.dir / "beyond.safetensors", [[1, VOCAB, 2]])
        below = write_ids(self.dir / "below.safetensors", [[1, -1, 2]])
        other = self.dir / "other.safetensors"
        write_safetensors(other, {"ids": ("I64", [1, 1], bytes(8))})
        taken = self.dir / "taken.safetensors"
        taken.write_text("mine")
        self.run_fails(2, ["--ids", "--text"], "logits", self.base, "-o", out)
        self.run_fails(2, ["--ids", "--text"], "logits", self.base, "-o", out, "--ids", self.ids, "--text", self.text)
        self.run_fails(2, [".safetensors"], "logits", self.base, "--ids", self.ids, "-o", self.dir / "l.bin")
        self.run_fails(2, ["empty.txt", "tokens"], "logits", self.base, "--text", empty, "-o", out)
        self.run_fails(3, ["wrong.txt", "5"], "logits", self.base, "--text", wrong, "-o", out)
        self.run_fails(2, ["256", "tokenizer"], "logits", self.base, "--ids", beyond, "-o", out)
        self.run_fails(2, ["input_ids[0][1]", "-1"], "logits", self.base, "--ids", below, "-o", out)
        self.run_fails(3, ["input_ids"], "logits", self.base, "--ids", other, "-o", out)
        self.run_fails(2, ["taken", "--force"], "logits", self.base, "--ids", self.ids, "-o", taken)
        self.assertEqual(taken.read_text(), "mine")
        self.assertFalse(out.exists())

    def test_an_architecture_that_is_not_known_is_named(self):
        folder = self.model("strange", config={"architectures": ["StrangeForCausalLM"], "model_type": "strange"})
        self.run_fails(2, ["StrangeForCausalLM"], "logits", folder, "--ids", self.ids, "-o", self.dir / "l.safetensors")

    def test_a_nan_is_named_with_layer_and_tensor(self):
        name = "model.layers.1.mlp.gate_proj.weight"
        folder = self.model("nan")
        tensors = read_safetensors(folder / "model.safetensors")
        dtype, shape, data = tensors[name]
        tensors[name] = (dtype, shape, data[:6] + struct.pack("<H", 0x7FC0) + data[8:])
        write_safetensors(folder / "model.safetensors", tensors)
        out = self.dir / "l.safetensors"
        self.run_fails(3, ["layer 1", name], "logits", folder, "--ids", self.ids, "-o", out)
        self.assertFalse(out.exists())

    def test_the_smallest_budget_that_an_error_names_will_do(self):
        out = self.dir / "l.safetensors"
        result = self.run_fails(4, ["--max-memory"], "logits", self.base, "--ids", self.ids, "-o", out, "--max-memory", "20MiB")
        smallest = re.search(r"give --max-memory (\d+)MiB", result.err).group(1)
        self.run_ok("logits", self.base, "--ids", self.ids, "-o", out, "--max-memory", f"{int(smallest) + 2}MiB")


class Perplexity(Forward):
    def measure(self, *arguments):
        return self.run_ok("perplexity", *arguments, "--text", self.text, "--json").json()

    def test_fields_and_conventions(self):
        result = self.measure(self.base, "--context", "128")
        self.assertEqual(result["schema"], "sluice/perplexity/v1")
        self.assertEqual(result["convention"], "llama512")
        self.assertEqual(result["tokens"], len(TEXT))
        self.assertIn("bos", result)
        self.assertAlmostEqual(result["models"][0]["ppl"], math.exp(result["models"][0]["mean_nll"]), places=9)
        self.assertTrue(result["by_position"])
        for convention in ("hf-stride", "exl2"):
            self.assertEqual(self.measure(self.base, "--convention", convention, "--context", "600")["convention"], convention)

    def test_a_recipe_measures_as_the_merge_that_it_writes(self):
        recipe = self.recipe()
        self.run_ok("merge", recipe, "-o", self.dir / "merged", cwd=self.dir)
        result = self.measure(self.base, recipe, self.dir / "merged", "--context", "128")
        _, computed, written = result["models"]
        self.assertEqual(computed["mean_nll"], written["mean_nll"])
        self.assertEqual(computed["ppl"], written["ppl"])
        alone = self.measure(recipe, "--context", "128", "--max-memory", budgets.mebibytes(100), "--threads", "1")
        self.assertEqual(alone["models"][0]["mean_nll"], computed["mean_nll"])

    def test_a_model_beside_itself_differs_in_nothing(self):
        (pair,) = self.measure(self.base, self.base, "--context", "128")["pairs"]
        self.assertEqual(pair["delta_ln_ppl"], 0)
        self.assertEqual(pair["error"], 0)
        self.assertEqual(pair["same_top"]["rate"], 1)

    def test_a_page_is_written(self):
        page = self.dir / "out.html"
        self.measure(self.base, self.tune, "--context", "128", "--report", page)
        text = page.read_text(encoding="utf-8")
        self.assertIn("<svg", text)
        self.assertNotIn("http://", re.sub(r"http://www\.w3\.org/\S+", "", text))

    def test_bad_input(self):
        empty = self.dir / "empty.txt"
        empty.write_text("")
        wrong = self.dir / "wrong.txt"
        wrong.write_bytes(b"good \xff bad")
        short = self.dir / "short.txt"
        short.write_text("short")
        self.run_fails(2, ["--text"], "perplexity", self.base)
        self.run_fails(2, ["token"], "perplexity", self.base, "--text", empty)
        self.run_fails(3, ["wrong.txt", "5"], "perplexity", self.base, "--text", wrong)
        self.run_fails(3, ["nowhere.txt"], "perplexity", self.base, "--text", self.dir / "nowhere.txt")
        self.run_fails(2, ["llama512", "hf-stride", "exl2"], "perplexity", self.base, "--text", self.text, "--convention", "mine")
        self.run_fails(2, ["512"], "perplexity", self.base, "--text", short)
        self.run_fails(2, ["--kv"], "perplexity", self.base, "--text", self.text, "--kv", "q8")


if __name__ == "__main__":
    main()
