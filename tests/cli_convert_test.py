"""convert: numbers that a cast makes infinite, renaming tensors, Yi's first releases as Llama."""

import json
import pathlib
import random
import shutil
import struct

import budgets
import cli_models
from cli_forward_test import write_ids
from cli_models import Case, bf16, decode_bf16, f32, normal, read_safetensors, write_gguf, write_model, write_safetensors

NORMS = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}
GOLDEN = pathlib.Path(__file__).parent / "goldens" / "inference" / "models" / "llama_yi"


def yi_name(name):
    for llama, yi in NORMS.items():
        name = name.replace(llama, yi)
    return name


def as_yi(llama, folder, config=None):
    """The model of `llama` as Yi's first releases have it: names of norms, class, code beside it."""
    shutil.copytree(llama, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json", "*.v4.json"))
    tensors = {}
    for file in llama.glob("model*.safetensors"):
        tensors.update(read_safetensors(file))
    write_safetensors(folder / "model.safetensors", {yi_name(name): tensor for name, tensor in tensors.items()}, {"format": "pt"})
    changed = json.loads((folder / "config.json").read_text())
    changed.update({"architectures": ["YiForCausalLM"], "model_type": "Yi",
                    "auto_map": {"AutoConfig": "configuration_yi.YiConfig", "AutoModelForCausalLM": "modeling_yi.YiForCausalLM"}})
    (folder / "config.json").write_text(json.dumps(dict(changed, **(config or {}))))
    (folder / "modeling_yi.py").write_text("raise SystemExit('never run')\n")
    return folder


class Convert(Case):
    def digest(self, ref):
        return self.run_ok("digest", ref, "--json").json()

    def names(self, ref):
        return [tensor["name"] for tensor in self.digest(ref)["tensors"]]


class Overflow(Convert):
    """65,504 is the largest half; what is nearer to 65,536 than to it becomes infinite."""

    def model(self, dtype, tensors):
        pack = {"F32": f32, "BF16": bf16}[dtype]
        folder = self.dir / dtype
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", {name: (dtype, [len(values)], pack(values)) for name, values in tensors.items()})
        return folder

    def convert(self, model, dtype, *more):
        result = self.run_ok("convert", model, "-o", self.dir / "out", "--dtype", dtype, "--force", "--json", *more)
        return result, [(p["severity"], p["file"], p["tensor"], p["message"]) for p in result.json()["problems"]]

    def test_each_tensor_is_told(self):
        inf, nan = float("inf"), float("nan")
        tensors = {"a": [65504.0, 65519.0, 65520.0, -1e30, inf, -inf, nan], "b": [inf, 1.0, 65504.0], "c": [1e6], "d": [0.5] * 9}
        result, problems = self.convert(self.model("F32", tensors), "float16")
        self.assertEqual(problems, [("warning", "", "a", "2 finite numbers became infinite in F16"),
                                    ("warning", "", "c", "1 finite number became infinite in F16")])
        self.assertIn("sluice: warning: a: 2 finite numbers became infinite in F16\n", result.err)
        self.assertNotIn("more tensors", result.err)
        halves = struct.unpack("<7e", read_safetensors(self.dir / "out" / "model.safetensors")["a"][2])
        self.assertEqual(halves[:6], (65504.0, 65504.0, inf, -inf, inf, -inf))
        self.assertEqual(self.convert(self.dir / "F32", "bf16")[1], [])
        self.assertEqual(self.convert(self.dir / "F32", "f32")[1], [])
        self.assertEqual(self.convert(self.dir / "out", "bf16")[1], [])  # what is infinite already is not told again
        self.assertEqual(self.run_ok("convert", self.dir / "F32", "-o", self.dir / "same", "--json").json()["problems"], [])

    def test_bfloat_overflows_by_rounding_up(self):
        largest = struct.unpack("<f", struct.pack("<I", 0x7F7FFFFF))[0]
        _, problems = self.convert(self.model("F32", {"w": [largest, -largest, 3.3895e38, 1.0]}), "bfloat16")
        self.assertEqual(problems, [("warning", "", "w", "2 finite numbers became infinite in BF16")])

    def test_the_first_few_by_name_and_how_many_more(self):
        model = self.model("BF16", {f"t{i:02}": [1e6, 1.0] for i in range(12)})
        result, problems = self.convert(model, "f16")
        self.assertEqual(len(problems), 12)
        self.assertEqual(result.err.count("finite number became infinite"), 5)
        self.assertIn("t04", result.err)
        self.assertNotIn("t05", result.err)
        self.assertIn("and 7 more tensors", result.err)

    def test_the_same_at_any_threads_and_budget_and_read_once(self):
        tensors = {"large": normal(1, 700_000, 30_000.0), "small": normal(2, 50, 30_000.0)}
        model = self.model("BF16", tensors)
        expected = [("warning", "", name, "{:,} finite numbers became infinite in F16".format(
            sum(abs(v) > 65519 for v in decode_bf16(bf16(values))))) for name, values in tensors.items()]
        self.assertRegex(expected[0][3], "^[0-9]+,[0-9]+ finite")
        roots = set()
        for more in ((), ("--threads", "1"), ("--threads", "3", "--max-memory", budgets.mebibytes(64))):
            result, problems = self.convert(model, "f16", *more)
            self.assertEqual(problems, expected)
            self.assertEqual(result.json()["bytes_read"], 2 * 700_050)
            roots.add(result.json()["root"])
        self.assertEqual(len(roots), 1)

    def test_with_renamed_tensors_and_into_one_file(self):
        model = self.model("BF16", {"a": [1e6], "b": [1.0]})
        result = self.run_ok("convert", model, "-o", self.dir / "x.safetensors", "--dtype", "f16", "--rename", "a=z", "--json").json()
        self.assertEqual([p["tensor"] for p in result["problems"]], ["z"])

    def test_dry_run_counts_nothing(self):
        plan = self.run_ok("convert", self.model("BF16", {"a": [1e6]}), "-o", self.dir / "x", "--dtype", "f16", "--dry-run", "--json")
        self.assertEqual(plan.json()["plan"]["bytes_read"], 2)
        self.assertEqual(plan.json()["plan"]["bytes_written"] > 0, True)
        self.assertFalse((self.dir / "x").exists())


class Rename(Convert):
    def setUp(self):
        super().setUp()
        self.model = write_model(self.dir / "model", shards=2)
        self.out = self.dir / "out"

    def refused(self, words, *more):
        self.run_fails(2, words, "convert", self.model, "-o", self.out, *more)
        self.assertFalse(self.out.exists())

    def test_there_and_back_has_one_root(self):
        rules = {"model.layers.*.self_attn.*.weight": "blocks.*.attention.*.w", "model.*.weight": "top.*", "lm_head.weight": "a.head"}
        there = self.dir / "there.json"
        there.write_text(json.dumps(rules))
        self.run_ok("convert", self.model, "-o", self.out, "--rename-file", there, "--out-shard-size", "9k")
        names = self.names(self.out)
        self.assertEqual(names, sorted(names))
        self.assertIn("blocks.1.attention.q_proj.w", names)
        self.assertIn("top.embed_tokens", names)
        self.assertIn("model.layers.0.mlp.up_proj.weight", names)  # no rule matches it
        back = [more for old, new in rules.items() for more in ("--rename", f"{new}={old}")]
        result = self.run_ok("convert", self.out, "-o", self.dir / "back", *back, "--json").json()
        self.assertEqual(result["root"], self.digest(self.model)["root"])
        self.run_ok("verify", self.model, self.dir / "back")

    def test_bytes_follow_their_names(self):
        self.run_ok("convert", self.model, "-o", self.dir / "x.safetensors", "--rename", "model.layers.0.*.weight=zero.*",
                    "--rename", "model.layers.*.*.weight=other.*.*")
        self.run_ok("convert", self.model, "-o", self.dir / "plain.safetensors")
        written, plain = (read_safetensors(self.dir / f"{name}.safetensors") for name in ("x", "plain"))
        for old, tensor in plain.items():
            new = old
            if old.count(".") == 4 and old.startswith("model.layers."):  # model.layers.N.NORM.weight
                layer, part = old.split(".")[2:4]
                new = f"zero.{part}" if layer == "0" else f"other.{layer}.{part}"
            self.assertEqual(written.pop(new), tensor, old)
        self.assertEqual(written, {})

    def test_with_a_cast_and_of_every_kind_of_reference(self):
        rule = ("--rename", "model.norm.weight=final.weight")
        for ref in (self.model, write_gguf(self.dir / "x.gguf", tokens=False)):
            self.run_ok("convert", ref, "-o", self.out, "--dtype", "f32", "--force", *rule)
            self.run_ok("convert", ref, "-o", self.dir / "cast", "--dtype", "f32", "--force")
            renamed, cast = ({t["name"]: t["digest"] for t in self.digest(folder)["tensors"]} for folder in (self.out, self.dir / "cast"))
            self.assertEqual(renamed.pop("final.weight"), cast.pop("model.norm.weight"))
            self.assertEqual(renamed, cast)

    def test_it_says_what_the_config_does_not_predict(self):
        result = self.run_ok("convert", self.model, "-o", self.out, "--rename", "model.norm.weight=final.weight")
        self.assertIn("of the output, config.json: 1 tensors that config.json predicts are missing: model.norm.weight", result.err)
        result = self.run_ok("convert", self.out, "-o", self.dir / "back", "--rename", "final.weight=model.norm.weight")
        self.assertNotIn("of the output", result.err)

    def test_bad_rules(self):
        self.refused(["--rename nonsense", "OLD=NEW"], "--rename", "nonsense")
        self.refused(["=x", "a name is empty"], "--rename", "=x")
        self.refused(["a name is empty"], "--rename", "x=")
        self.refused(["--rename model.gone.weight=x", "no tensor has such a name"], "--rename", "model.gone.weight=x")
        self.refused(["no tensor"], "--rename", "model.layers.*=x")  # a star takes no dot
        self.refused(["more stars"], "--rename", "model.layers.*.input_layernorm.weight=*.*")
        self.refused(["two tensors would be named x", "model.layers.0.input_layernorm.weight", "model.layers.1.input_layernorm.weight"],
                     "--rename", "model.layers.*.input_layernorm.weight=x")
        self.refused(["two tensors would be named model.norm.weight", "lm_head.weight"], "--rename", "lm_head.weight=model.norm.weight")
        self.refused(["__metadata__", "reserves"], "--rename", "lm_head.weight=__metadata__")
        self.refused(["before it", "first that matches"], "--rename", "lm_head.weight=a", "--rename", "lm_head.weight=b")
        # A rule's form is looked at before the model is.
        self.run_fails(2, ["--rename x"], "convert", self.dir / "none", "-o", self.out, "--rename", "x")

    def test_bad_files(self):
        path = self.dir / "map.json"
        self.run_fails(3, ["map.json"], "convert", self.model, "-o", self.out, "--rename-file", path)
        self.run_fails(3, [str(self.dir)], "convert", self.model, "-o", self.out, "--rename-file", self.dir)
        for text, words in (("", ["line 1"]), ("{", ["line 1"]), ("[]", ["JSON object"]), ("{}", ["JSON object"]),
                            ('{"a": ["b"]}', ["the new name of a is array"]), ('{"lm_head.weight": ""}', ["empty"]),
                            ('{"lm_head.weight": "a",\n "lm_head.weight": "b"}', ["line 2", "second time"]), ('{"gone": "x"}', ["gone=x", "no tensor"])):
            path.write_text(text)
            self.refused(["map.json", *words], "--rename-file", path)
        path.write_bytes(b'{"\xff": "a"}')
        self.refused(["map.json", "UTF-8"], "--rename-file", path)

    def test_no_input(self):
        self.run_fails(2, ["REF"], "convert", "--rename", "a=b", "-o", self.out)
        self.run_fails(3, ["none"], "convert", self.dir / "none", "-o", self.out, "--rename", "a=b")
        write_safetensors(self.dir / "empty.safetensors", {})
        self.run_fails(2, ["no tensor"], "convert", self.dir / "empty.safetensors", "-o", self.out, "--rename", "a=b")


class ToLlama(Convert):
    def setUp(self):
        super().setUp()
        self.llama = write_model(self.dir / "llama")
        self.yi = as_yi(self.llama, self.dir / "yi")
        self.out = self.dir / "out"

    def test_yi_runs_as_llama_does(self):
        yi = as_yi(GOLDEN, self.dir / "golden")
        told = self.run_ok("inspect", yi, "--json").json()
        self.assertEqual(told["architecture"], "YiForCausalLM")
        self.assertEqual(told["parameters"], told["parameters_from_config"])
        self.assertEqual([p for p in told["problems"] if p["severity"] != "note"], [])
        generator = random.Random(5)
        ids = write_ids(self.dir / "ids.safetensors", [[generator.randrange(160) for _ in range(40)] for _ in range(2)])
        self.run_ok("convert", yi, "-o", self.out, "--to", "llama")
        logits = []
        for ref in (GOLDEN, yi, self.out):
            self.run_ok("logits", ref, "--ids", ids, "-o", self.dir / "logits.safetensors", "--force")
            logits.append(read_safetensors(self.dir / "logits.safetensors")["logits"])
        self.assertEqual(logits[0], logits[1])
        self.assertEqual(logits[0], logits[2])

    def test_it_is_the_llama_that_it_was_made_of(self):
        result = self.run_ok("convert", self.yi, "-o", self.out, "--to", "llama", "--json").json()
        self.assertEqual(result["weights_root"], self.digest(self.llama)["weights_root"])
        config = json.loads((self.out / "config.json").read_text())
        self.assertEqual((config["architectures"], config["model_type"]), (["LlamaForCausalLM"], "llama"))
        self.assertNotIn("auto_map", config)
        before = json.loads((self.yi / "config.json").read_text())
        for key in before.keys() - {"architectures", "model_type", "auto_map"}:
            self.assertEqual(config[key], before[key], key)
        self.assertFalse(list(self.out.glob("*.py")))
        # And back, by a map of names.
        back = [more for llama, yi in NORMS.items() for more in ("--rename", f"model.layers.*.{llama}.weight=model.layers.*.{yi}.weight")]
        result = self.run_ok("convert", self.out, "-o", self.dir / "back", *back, "--json").json()
        self.assertEqual(result["weights_root"], self.digest(self.yi)["weights_root"])

    def test_what_the_old_defaults_said_is_written_out(self):
        config = json.loads((self.yi / "config.json").read_text())
        for key in ("rope_theta", "rms_norm_eps", "max_position_embeddings"):
            config.pop(key, None)
        (self.yi / "config.json").write_text(json.dumps(config))
        self.run_ok("convert", self.yi, "-o", self.out, "--to", "llama")
        written = json.loads((self.out / "config.json").read_text())
        self.assertEqual((written["rope_theta"], written["rms_norm_eps"], written["max_position_embeddings"]), (5e6, 1e-5, 4096))

    def test_a_model_that_is_llama_already(self):
        result = self.run_ok("convert", self.llama, "-o", self.out, "--to", "llama", "--json")
        self.assertIn("--to llama changes nothing", result.err)
        self.assertEqual(result.json()["root"], self.digest(self.llama)["root"])

    def test_names_are_mended_first(self):
        old = {tensor["name"]: "wrapped." + tensor["name"] for tensor in self.digest(self.yi)["tensors"]}
        (self.dir / "map.json").write_text(json.dumps(old))
        self.run_ok("convert", self.yi, "-o", self.dir / "wrapped", "--rename-file", self.dir / "map.json")
        (self.dir / "map.json").write_text(json.dumps({new: name for name, new in old.items()}))
        result = self.run_ok("convert", self.dir / "wrapped", "-o", self.out, "--to", "llama", "--rename-file", self.dir / "map.json", "--json")
        self.assertEqual(result.json()["weights_root"], self.digest(self.llama)["weights_root"])
        self.assertNotIn("of the output", result.err)

    def test_code_of_the_tokenizer_is_told(self):
        (self.yi / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_yi.YiTokenizer", None]}}))
        result = self.run_ok("convert", self.yi, "-o", self.out, "--to", "llama")
        self.assertIn("tokenization_yi.YiTokenizer", result.err)
        self.assertIn("not copied", result.err)

    def test_what_is_not_the_same_is_refused(self):
        for model in (self.yi, self.llama):
            self.run_fails(2, ["--to mistral", "--to llama"], "convert", model, "-o", self.out, "--to", "mistral")
        for name, model_type in (("MistralForCausalLM", "mistral"), ("Qwen2ForCausalLM", "qwen2"), ("NobodysForCausalLM", "nobody")):
            folder = write_model(self.dir / model_type, config={"architectures": [name], "model_type": model_type, "sliding_window": None})
            self.run_fails(2, [f"is a {name}", "only YiForCausalLM"], "convert", folder, "-o", self.out, "--to", "llama")
        write_safetensors(self.dir / "alone.safetensors", read_safetensors(self.yi / "model.safetensors"))
        self.run_fails(2, ["no config.json"], "convert", self.dir / "alone.safetensors", "-o", self.out, "--to", "llama")
        config = (self.yi / "config.json").read_text()
        (self.llama / "config.json").write_text(config)
        self.run_fails(2, ["ln1", "no tensor has such a name"], "convert", self.llama, "-o", self.out, "--to", "llama")
        self.assertFalse(self.out.exists())


if __name__ == "__main__":
    cli_models.main()
