"""REF+LORA: an adapter on a model is a model to every command, and what does not fit is told."""

import json
import struct

import cli_models
from cli_forward_test import TEXT, byte_tokenizer
from cli_models import Case, FFN, HIDDEN, VOCAB, bf16, decode_bf16, f32, normal, read_safetensors, recipe_text, write_gguf, write_model, write_safetensors

RANK, ALPHA = 3, 7
LAYER = "model.layers.0."
# Module -> shape of its weight, [out, in].
TARGETS = {LAYER + "self_attn.q_proj": (HIDDEN, HIDDEN), LAYER + "mlp.down_proj": (HIDDEN, FFN), "lm_head": (VOCAB, HIDDEN)}


def factors(module, rank=RANK):
    """A [rank, in] and B [out, rank], in numbers that f32 holds."""
    out, columns = TARGETS[module]
    a, b = normal(len(module), rank * columns, 0.2), normal(1 + len(module), out * rank, 0.2)
    return [[struct.unpack("<f", struct.pack("<f", v))[0] for v in values] for values in (a, b)]


def write_adapter(folder, modules=tuple(TARGETS), extra=None, **config):
    folder.mkdir()
    tensors = {}
    for module in modules:
        (out, columns), (a, b) = TARGETS[module], factors(module)
        tensors[f"base_model.model.{module}.lora_A.weight"] = ("F32", [RANK, columns], f32(a))
        tensors[f"base_model.model.{module}.lora_B.weight"] = ("F32", [out, RANK], f32(b))
    tensors.update(extra or {})
    write_safetensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none",
                                                            "base_model_name_or_path": "org/base", **config}))
    return folder


class Adapters(Case):
    def setUp(self):
        super().setUp()
        self.text = self.dir / "text.txt"
        self.text.write_text(TEXT)
        self.base = write_model(self.dir / "base")
        self.lora = write_adapter(self.dir / "lora")
        self.ref = f"{self.base}+{self.lora}"


    def test_the_merge_that_it_writes(self):
        """convert writes W + alpha / r * B A, rounded once."""
        out = self.dir / "merged"
        self.run_ok("convert", self.ref, "-o", out)
        before, after = (read_safetensors(folder / "model.safetensors") for folder in (self.base, out))
        self.assertEqual(sorted(before), sorted(after))
        equal = compared = 0
        for name, (dtype, shape, data) in after.items():
            self.assertEqual((dtype, shape), before[name][:2])
            module = name.removesuffix(".weight")
            if module not in TARGETS:
                self.assertEqual(data, before[name][2], name)
                continue
            (rows, columns), (a, b) = TARGETS[module], factors(module)
            got, weight = decode_bf16(data), decode_bf16(before[name][2])
            for i in range(rows * columns):
                row, column = divmod(i, columns)
                exact = weight[i] + ALPHA / RANK * sum(b[row * RANK + j] * a[j * columns + column] for j in range(RANK))
                # Half a step of bf16, and what f32's roundings of sums of this size come to.
                self.assertLessEqual(abs(got[i] - exact), abs(exact) * 2**-8 + 1e-6, name)
                equal += got[i] == decode_bf16(bf16([exact]))[0]
                compared += 1
        self.assertGreater(equal / compared, 0.99)

    def test_every_command_sees_one_model(self):
        out = self.dir / "merged"
        self.run_ok("convert", self.ref, "-o", out, "--out-shard-size", "20kB")
        roots = {str(ref): self.run_ok("digest", ref, *more, "--json").json()["root"]
                 for ref in (self.ref, out) for more in ((), ("--threads", "1"))}
        self.assertEqual(roots[self.ref], roots[str(out)])
        self.assertNotEqual(roots[self.ref], self.run_ok("digest", self.base, "--json").json()["root"])
        for pair in ((self.ref, out), (out, self.ref)):
            self.assertEqual(self.run_ok("verify", *pair, "--json").json()["verdict"], "IDENTICAL")
        told = self.run_ok("verify", self.ref, self.base, "--json", status=1).json()
        self.assertNotEqual(told["verdict"], "IDENTICAL")

        self.run_ok("fingerprint", self.ref, "-o", self.dir / "f.json")
        self.run_ok("verify", out, "--against", self.dir / "f.json")
        self.run_ok("verify", self.base, "--against", self.dir / "f.json", status=1)

        inspected = self.run_ok("inspect", self.ref, "--json").json()
        self.assertEqual(inspected["parameters"], self.run_ok("inspect", self.base, "--json").json()["parameters"])
        messages = [problem["message"] for problem in inspected["problems"]]
        self.assertFalse(any("was trained on" in message for message in messages), messages)  # org/base, and base it is

    def test_the_forward_pass(self):
        tokenized = write_model(self.dir / "tokenized", vocab=256)
        (tokenized / "tokenizer.json").write_text(byte_tokenizer())
        lora = write_adapter(self.dir / "small", modules=list(TARGETS)[:2])
        ref, out = f"{tokenized}+{lora}", self.dir / "merged"
        self.run_ok("convert", ref, "-o", out)
        measured = [self.run_ok("perplexity", model, "--text", self.text, "--json").json()["models"][0] for model in (ref, out, tokenized)]
        for result in measured:
            for key in ("model", "ref", "seconds"):
                result.pop(key, None)
        self.assertEqual(measured[0]["ppl"], measured[1]["ppl"])
        self.assertNotEqual(measured[0]["ppl"], measured[2]["ppl"])
        write = lambda model, name: self.run_ok("logits", model, "--text", self.text, "-o", self.dir / name)
        write(ref, "a.safetensors"), write(out, "b.safetensors")
        self.assertEqual(*(read_safetensors(self.dir / name)["logits"] for name in ("a.safetensors", "b.safetensors")))

    def test_in_a_recipe(self):
        tune, out = write_model(self.dir / "tune", update_seed=3), self.dir / "out"
        recipe = self.dir / "recipe.yml"
        roots = []
        self.run_ok("convert", self.ref, "-o", out)
        for model in ("base+lora", str(out)):
            recipe.write_text(recipe_text("linear", None, [("tune", {"weight": 1}), (model, {"weight": 0.5})]))
            roots.append(self.run_ok("digest", recipe, "--json").json()["root"])
        self.assertEqual(roots[0], roots[1])
        merged = self.dir / "of_recipe"
        recipe.write_text(recipe_text("linear", None, [("tune", {"weight": 1})]))
        self.run_ok("convert", f"{recipe}+{self.lora}", "-o", merged)

    def test_lora_merge_dtype_of_mergekits_arithmetic(self):
        write_model(self.dir / "tune", update_seed=3)
        recipe = self.dir / "recipe.yml"
        recipe.write_text(recipe_text("linear", None, [("tune", {"weight": 1}), ("base+lora", {"weight": 0.5})]))
        roots = set()
        for dtype in ("float32", "float16", "bfloat16"):
            out = self.dir / dtype
            flags = [] if dtype == "float32" else ["--lora-merge-dtype", dtype]  # float32 is the default
            roots.add(self.run_ok("merge", recipe, "-o", out, "--arithmetic", "mergekit", *flags, "--json").json()["root"])
            self.assertEqual(json.loads((out / "sluice_merge.json").read_text())["lora_merge_dtype"], dtype)
            self.assertIn("IDENTICAL", self.run_ok("verify", out, recipe).out)  # made again as its statement says
            self.assertIn("SAME_SAMPLE", self.run_ok("verify", out, "--sample", "1", "--facts", "1").out)
        self.assertGreater(len(roots), 1)  # in the type of the result two of them may be one
        self.run_fails(2, ["--lora-merge-dtype", "mergekit"], "merge", recipe, "-o", self.dir / "x", "--lora-merge-dtype", "float16")
        self.run_fails(2, ["--lora-merge-dtype", "int8"], "merge", recipe, "-o", self.dir / "x", "--arithmetic", "mergekit",
                       "--lora-merge-dtype", "int8")
        self.assertFalse((self.dir / "x").exists())

    def test_on_blocks(self):
        gguf = write_gguf(self.dir / "x.gguf")
        self.run_ok("digest", f"{gguf}+{self.lora}")
        rows = {row["name"]: row for row in self.run_ok("inspect", f"{gguf}+{self.lora}", "--tensors", "--json").json()["tensors"]}
        name = LAYER + "self_attn.q_proj.weight"
        self.assertIn(rows[name].get("encoding", rows[name].get("dtype")), ("F32", "F16", "BF16"))

    def test_what_does_not_fit(self):
        dora = write_adapter(self.dir / "dora", use_dora=True)
        self.run_fails(2, ["dora/adapter_config.json", "use_dora", "merge_and_unload"], "digest", f"{self.base}+{dora}")
        rank = write_adapter(self.dir / "rank", r=4)
        self.run_fails(3, ["rank/adapter_model.safetensors", "lora_a", "rank 3", "4"], "digest", f"{self.base}+{rank}")
        other = write_adapter(self.dir / "other", extra={"base_model.model.model.layers.9.x.lora_A.weight": ("F32", [1, 1], f32([0]))})
        self.run_fails(3, ["no place in", "layers.9.x", "org/base"], "digest", f"{self.base}+{other}")
        self.run_fails(3, ["adapter_config.json"], "digest", f"{self.base}+{self.base}")
        self.run_fails(3, ["nowhere"], "digest", f"{self.base}+{self.dir}/nowhere")
        self.run_fails(2, ["adapter, not a model", "MODEL+"], "digest", self.lora)
        (self.lora / "adapter_config.json").write_text("{")
        self.run_fails(3, ["adapter_config.json", "line 1"], "digest", self.ref)


if __name__ == "__main__":
    cli_models.main()
