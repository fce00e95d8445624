"""extract-lora: BASE+ADAPTER is the fine-tune as nearly as the rank allows, what is left out is told, and what cannot be is refused."""

import json
import math
import struct

import cli_models
from budgets import mebibytes
from cli_models import CONFIG, FFN, HIDDEN, Case, bf16, decode_bf16, f32, normal, product, read_safetensors, recipe_text, shapes, sluice, values_of, write_gguf, write_model, write_safetensors

RANK = 4
LAYERS = [name for name in shapes() if "proj" in name]  # 7 kinds in 2 layers


def floats(data):
    return struct.unpack(f"<{len(data) // 4}f", data)


def update_of(name, rank=RANK, scale=0.02):
    """A matrix of that rank, [out, in], flat."""
    rows, columns = shapes()[name]
    left, right = normal(len(name) + rows, rows * rank, scale), normal(len(name) + columns, rank * columns, 1)
    return [sum(left[i * rank + k] * right[k * columns + j] for k in range(rank)) for i in range(rows) for j in range(columns)]


def write_tune(folder, dtype="F32", changed=LAYERS, config=None, extra=None):
    """The model of write_model(seed=1) with an update of rank 4 on `changed`."""
    folder.mkdir()
    pack, tensors = cli_models.PACK[dtype], {}
    for name, values in values_of(1).items():
        if name in changed:
            values = [v + u for v, u in zip(values, update_of(name))]
        tensors[name] = (dtype, shapes()[name], pack(values))
    tensors.update(extra or {})
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(dict(CONFIG, **(config or {}))))
    return folder


class ExtractLora(Case):
    def setUp(self):
        super().setUp()
        self.base = write_model(self.dir / "base", dtype="F32")
        self.tune = write_tune(self.dir / "tune")
        self.out = self.dir / "lora"

    def extract(self, *more, rank=RANK, tune=None, base=None, out=None, status=0):
        return self.run_ok("extract-lora", tune or self.tune, "--base", base or self.base, "--rank", rank, "-o", out or self.out,
                           "--json", *more, status=status).json()

    def relative_error(self, name, adapter=None, base=None, tune=None):
        """|fine-tune - (BASE+ADAPTER)| / |fine-tune - base| of a tensor, from what convert writes in F32."""
        written = self.dir / f"applied{len(list(self.dir.iterdir()))}"
        self.run_ok("convert", f"{base or self.base}+{adapter or self.out}", "-o", written)
        ours, tuned, before = (floats(read_safetensors(folder / "model.safetensors")[name][2]) for folder in (written, tune or self.tune, base or self.base))
        norm = lambda a, b: math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))
        return norm(tuned, ours) / norm(tuned, before)

    def test_an_update_of_that_rank_comes_back(self):
        told = self.extract()
        self.assertEqual(told["schema"], "sluice/extract-lora/v1")
        for key in ("adapter", "finetune", "base", "rank", "seed", "relative_error", "tensors", "not_captured", "unchanged", "not_compared",
                    "files", "bytes_read", "bytes_written", "seconds", "peak_memory_bytes"):
            self.assertIn(key, told)
        self.assertEqual((told["adapter"], told["base"], told["rank"]), (str(self.out), str(self.base), RANK))
        self.assertEqual([tensor["name"] for tensor in told["tensors"]], sorted(LAYERS))
        self.assertEqual(told["not_captured"], [])
        self.assertEqual(told["unchanged"], len(shapes()) - len(LAYERS))
        self.assertLess(told["relative_error"], 1e-5)
        for tensor in told["tensors"]:
            self.assertLess(tensor["relative_error"], 1e-5, tensor)
            self.assertGreater(tensor["energy"], 1 - 1e-10, tensor)
            self.assertGreater(tensor["relative_change"], 0.1, tensor)
        self.assertLess(self.relative_error(LAYERS[0]), 1e-5)
        self.assertEqual(sorted(path.name for path in self.out.iterdir()), ["adapter_config.json", "adapter_model.safetensors"])
        # Both models once to compare, layers up to four times for the factors: so small, several passes share a read.
        sizes = {name: 8 * product(shape) for name, shape in shapes().items()}
        layers = sum(sizes[name] for name in LAYERS)
        self.assertGreaterEqual(told["bytes_read"], sum(sizes.values()) + layers)
        self.assertLessEqual(told["bytes_read"], sum(sizes.values()) + 4 * layers)

    def test_the_files_are_peft_s(self):
        self.extract()
        config = json.loads((self.out / "adapter_config.json").read_text())
        self.assertEqual((config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]), ("LORA", "CAUSAL_LM", RANK, RANK))
        self.assertEqual(config["base_model_name_or_path"], str(self.base))
        self.assertEqual(config["target_modules"], sorted({name.split(".")[-2] for name in LAYERS}))
        self.assertEqual((config["rank_pattern"], config["alpha_pattern"], config["bias"]), ({}, {}, "none"))
        tensors = read_safetensors(self.out / "adapter_model.safetensors")
        self.assertEqual(len(tensors), 2 * len(LAYERS))
        down = "base_model.model.model.layers.1.mlp.down_proj.lora_"
        self.assertEqual(tensors[down + "A.weight"][:2], ("F32", [RANK, FFN]))
        self.assertEqual(tensors[down + "B.weight"][:2], ("F32", [HIDDEN, RANK]))

    def test_what_is_told_of_a_lower_rank_is_so(self):
        errors = {tensor["name"]: tensor["relative_error"] for tensor in self.extract(rank=2)["tensors"]}
        for name in (LAYERS[0], LAYERS[-1]):
            self.assertGreater(errors[name], 0.1)
            self.assertAlmostEqual(self.relative_error(name) / errors[name], 1, places=4)
        worse = {tensor["name"]: tensor["relative_error"] for tensor in self.extract("--force", rank=1)["tensors"]}
        self.assertTrue(all(worse[name] > errors[name] for name in LAYERS))

    def test_through_bf16_the_roundings_are_what_is_left(self):
        base, tune = write_model(self.dir / "base16"), write_tune(self.dir / "tune16", dtype="BF16")
        for tensor in self.extract(base=base, tune=tune)["tensors"]:
            before, after = (decode_bf16(read_safetensors(folder / "model.safetensors")[tensor["name"]][2]) for folder in (base, tune))
            # Each stored number is off by at most 2^-9 of itself; what is of rank 4 below it is held as well as they are.
            rounding = math.sqrt(sum((2**-9 * (abs(a) + abs(b))) ** 2 for a, b in zip(before, after)))
            change = math.sqrt(sum((a - b) ** 2 for a, b in zip(before, after)))
            self.assertLess(tensor["relative_error"], 1.01 * rounding / change)
            self.assertGreater(tensor["relative_error"], 0.001 * rounding / change)
        told = self.run_ok("verify", f"{base}+{self.out}", tune, "--json", status=1).json()
        far = {t["name"]: t["relative_l2"] for t in told["tensors"] if "proj" in t["name"]}
        self.assertLess(max(far.values()), 2**-8)

    def test_the_same_bytes_at_any_threads_and_budget_and_another_seed_s_others(self):
        bytes_of = lambda folder: (folder / "adapter_model.safetensors").read_bytes()
        self.extract("--threads", "1", rank=3)
        runs = (["--threads", "2"], ["--threads", "5", "--max-memory", "2GiB"], ["--threads", "2", "--max-memory", mebibytes(64)], ["--seed", "0"])
        for i, more in enumerate(runs):
            self.extract(*more, rank=3, out=self.dir / str(i))
            self.assertEqual(bytes_of(self.dir / str(i)), bytes_of(self.out), more)
        self.extract("--seed", "9", rank=3, out=self.dir / "other")
        self.assertNotEqual(bytes_of(self.dir / "other"), bytes_of(self.out))
        self.assertLess(abs(self.relative_error(LAYERS[3], self.dir / "other") - self.relative_error(LAYERS[3])), 1e-5)

    def test_what_is_not_captured_is_told(self):
        norm, embedding, head = "model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"
        moved = {name: ("F32", shapes()[name], f32([1.5 * v for v in values_of(1)[name]])) for name in (norm, embedding, head)}
        tune = write_tune(self.dir / "more", extra=moved)
        result = self.run_ok("extract-lora", tune, "--base", self.base, "-r", RANK, "-o", self.out, "--json")
        self.assertIn("3 of the tensors that differ are not in the adapter", result.err)
        self.assertIn("--include-embeddings", result.err)
        told = result.json()
        left = {one["name"]: one for one in told["not_captured"]}
        self.assertEqual(set(left), {norm, embedding, head})
        self.assertEqual([left[name]["reason"] for name in (norm, embedding, head)], ["one dimension", "an embedding", "the head"])
        for one in left.values():
            self.assertAlmostEqual(one["relative_change"], 0.5, places=5)
        self.assertAlmostEqual(told["relative_error"] ** 2, sum(one["energy"] for one in left.values()), places=9)
        text = self.run_ok("extract-lora", tune, "--base", self.base, "-r", RANK, "-o", self.out, "--force").out
        for word in (norm, "not captured", f"{self.base}+{self.out}"):
            self.assertIn(word, text)

        told = self.extract("--include-embeddings", "--force", tune=tune, rank=32)
        self.assertEqual([one["name"] for one in told["not_captured"]], [norm])
        names = read_safetensors(self.out / "adapter_model.safetensors")
        self.assertIn("base_model.model.model.embed_tokens.lora_embedding_A", names)
        self.assertIn("base_model.model.lm_head.lora_A.weight", names)
        for name in (embedding, head):
            self.assertLess(self.relative_error(name, tune=tune), 1e-5)

    def test_layers_that_are_as_they_were_are_no_targets(self):
        query, down = "model.layers.0.self_attn.q_proj.weight", "model.layers.{}.mlp.down_proj.weight"
        tune = write_tune(self.dir / "few", changed=[query, down.format(0), down.format(1)])
        self.assertEqual(len(self.extract(tune=tune)["tensors"]), 3)
        config = json.loads((self.out / "adapter_config.json").read_text())
        self.assertEqual(config["target_modules"], ["down_proj", "model.layers.0.self_attn.q_proj"])
        result = self.run_ok("digest", f"{self.base}+{self.out}")
        self.assertNotIn("target_modules", result.err)

    def test_a_rank_above_a_layer_s_own_is_that(self):
        result = self.run_ok("extract-lora", self.tune, "--base", self.base, "--rank", "24", "-o", self.out, "--json")
        self.assertIn("k_proj", result.err)
        ranks = {tensor["name"]: tensor["rank"] for tensor in result.json()["tensors"]}
        key = "model.layers.1.self_attn.k_proj"
        self.assertEqual((ranks[key + ".weight"], ranks[LAYERS[0]]), (16, 24))
        config = json.loads((self.out / "adapter_config.json").read_text())
        self.assertEqual((config["rank_pattern"][key], config["alpha_pattern"][key], len(config["rank_pattern"])), (16, 16, 4))
        self.assertLess(self.relative_error(key + ".weight"), 1e-5)
        self.run_fails(2, ["--rank 33", "32"], "extract-lora", self.tune, "--base", self.base, "--rank", "33", "-o", self.dir / "x")

    def test_any_reference(self):
        recipe = self.dir / "recipe.yml"
        recipe.write_text(recipe_text("linear", None, [("tune", {"weight": 1}), ("base", {"weight": 1})], dtype="float32"))
        self.extract(tune=recipe)
        self.assertLess(self.relative_error(LAYERS[0], tune=self.half()), 1e-5)
        gguf = write_gguf(self.dir / "x.gguf", quantised=False)
        told = self.extract("--force", base=gguf)
        self.assertEqual(len(told["tensors"]), len(LAYERS))
        self.run_ok("extract-lora", f"{self.base}+{self.out}", "--base", self.base, "-r", "4", "-o", self.dir / "again")

    def half(self):
        out = self.dir / "half"
        self.run_ok("convert", self.dir / "recipe.yml", "-o", out)
        return out

    def test_dry_run_writes_nothing(self):
        told = self.extract("--dry-run")
        self.assertTrue(told["dry_run"])
        self.assertGreater(told["plan"]["bytes_read"], 4 * 8 * sum(product(shapes()[name]) for name in LAYERS))
        self.assertFalse(self.out.exists())

    def test_what_cannot_be_is_refused(self):
        run = ["extract-lora", self.tune, "--base", self.base, "--rank", RANK, "-o", self.out]
        with_tune = lambda tune: ["extract-lora", tune, *run[2:]]
        wider = write_model(self.dir / "wider", dtype="F32", vocab=42)
        self.run_fails(2, ["lm_head.weight", "[42, 32]", "[40, 32]", "tokenizer_source"], *with_tune(wider))
        qwen = write_model(self.dir / "qwen", dtype="F32", config={"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})
        self.run_fails(2, ["qwen2", "llama"], *with_tune(qwen))
        less = write_model(self.dir / "less", dtype="F32", drop=[LAYERS[2]])
        self.run_fails(2, [LAYERS[2], "does not have"], *with_tune(less))
        self.run_fails(2, ["no layer", "differs"], *with_tune(self.base))
        bent = [1.0] * product(shapes()[LAYERS[1]])
        bent[7] = math.nan
        nan = write_tune(self.dir / "nan", extra={LAYERS[1]: ("F32", shapes()[LAYERS[1]], f32(bent))})
        self.run_fails(3, [LAYERS[1], "element 7", "nan"], *with_tune(nan))
        self.run_fails(2, ["--rank 0"], *run[:5], "0", *run[6:])
        self.run_fails(2, ["rank"], *run[:5], "-1", *run[6:])
        self.run_fails(2, ["rank"], *run[:4], *run[6:])
        self.run_fails(2, ["--base"], *run[:2], *run[4:])
        self.run_fails(2, ["folder"], *run[:-1], self.dir / "x.safetensors")
        self.run_fails(3, ["nowhere"], *with_tune(self.dir / "nowhere"))
        self.assertFalse(self.out.exists())
        self.out.mkdir()
        (self.out / "mine").write_text("mine")
        self.run_fails(2, ["lora", "--force"], *run)
        self.run_ok(*run, "--force")
        self.assertFalse((self.out / "mine").exists())

    def test_a_base_whose_name_is_no_utf_8(self):
        base = self.dir / "ba\udcffse"  # the byte 255
        self.base.rename(base)
        self.run_ok("extract-lora", self.tune, "--base", base, "--rank", RANK, "-o", self.out, "--json")
        config = json.loads((self.out / "adapter_config.json").read_text(encoding="utf-8"))
        self.assertEqual(config["base_model_name_or_path"], str(self.dir / "ba\ufffdse"))

    def test_a_budget_that_is_too_small_names_one_that_does(self):
        run = ["extract-lora", self.tune, "--base", self.base, "--rank", RANK, "-o", self.out]
        result = self.run_fails(4, ["--max-memory"], *run, "--max-memory", "1MiB")
        least = result.err.split("give --max-memory ")[1].split(" ")[0]
        self.assertFalse(self.out.exists())
        told = self.run_ok(*run, "--max-memory", least, "--json").json()
        self.assertLessEqual(told["peak_memory_bytes"], int(least.removesuffix("MiB")) << 20)


if __name__ == "__main__":
    cli_models.main()
