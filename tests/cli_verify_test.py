"""digest, verify, inspect, convert and merge on tiny models: results, fields, verdicts and exit statuses."""

import json
import struct

import budgets
import cli_models
from cli_models import CONFIG, Case, bf16, decode_bf16, f16, f32
from cli_models import read_safetensors, recipe_text, values_of, write_gguf, write_model, write_safetensors


class Inspect(Case):
    def test_fields(self):
        model = write_model(self.dir / "model", shards=3)
        result = self.run_ok("inspect", model, "--json", "--tensors").json()
        self.assertEqual(list(result)[0], "schema")
        self.assertEqual(result["schema"], "sluice/inspect/v1")
        self.assertEqual(result["architecture"], "LlamaForCausalLM")
        expected = sum(cli_models.product(shape) for shape in cli_models.shapes().values())
        self.assertEqual(result["parameters"], expected)
        self.assertEqual(result["parameters_from_config"], expected)
        self.assertEqual(result["bytes"], 2 * expected)
        self.assertEqual(result["dtypes"]["BF16"]["bytes"], 2 * expected)
        self.assertEqual(len(result["shards"]), 3)
        self.assertEqual(result["tied"], [])
        self.assertEqual(result["problems"], [])
        self.assertEqual({t["name"]: t["shape"] for t in result["tensors"]}, cli_models.shapes())
        text = self.run_ok("inspect", model, "--tensors").out
        for word in ("LlamaForCausalLM", "as the config predicts", "BF16", "model-00002-of-00003.safetensors", "lm_head.weight"):
            self.assertIn(word, text)

    def test_tied(self):
        model = write_model(self.dir / "model", drop=["lm_head.weight"], config={"tie_word_embeddings": True})
        result = self.run_ok("inspect", model, "--json").json()
        self.assertEqual(result["tied"], ["lm_head.weight"])
        self.assertEqual(result["parameters"], result["parameters_from_config"])
        self.assertNotIn("missing", self.run_ok("inspect", model).out)

    def test_a_recipe_is_a_checkpoint(self):
        write_model(self.dir / "a")
        write_model(self.dir / "b", update_seed=2)
        recipe = self.dir / "r.yml"
        recipe.write_text(recipe_text("linear", None, [("a", {"weight": 1}), ("b", {"weight": 1})], dtype="float32"))
        result = self.run_ok("inspect", recipe, "--json").json()
        self.assertEqual(result["kind"], "recipe")
        self.assertEqual(list(result["dtypes"]), ["F32"])


class Digest(Case):
    def test_root_does_not_depend_on_shards_or_container(self):
        one = self.run_ok("digest", write_model(self.dir / "one"), "--json").json()
        four = self.run_ok("digest", write_model(self.dir / "four", shards=4), "--json").json()
        self.assertEqual(one["schema"], "sluice/digest/v1")
        for key in ("root", "weights_root", "bytes", "tensors"):
            self.assertEqual(one[key], four[key])
        self.assertEqual(set(one["tensors"][0]), {"name", "encoding", "shape", "digest"})
        alone = self.run_ok("digest", self.dir / "one" / "model.safetensors", "--json").json()
        self.assertEqual(alone["weights_root"], one["weights_root"])

    def test_manifest(self):
        model = write_model(self.dir / "model")
        manifest = self.dir / "m.json"
        told = self.run_ok("digest", model, "-o", manifest, "--json").json()
        self.assertEqual(json.loads(manifest.read_text()), told)
        other = write_model(self.dir / "other", shards=2)
        self.assertTrue(self.run_ok("digest", other, "--check", manifest, "--json").json()["check"]["same"])
        # One bit of one tensor.
        tensors = read_safetensors(model / "model.safetensors")
        name = "model.layers.1.mlp.up_proj.weight"
        dtype, shape, data = tensors[name]
        tensors[name] = (dtype, shape, bytes([data[0] ^ 1]) + data[1:])
        write_safetensors(model / "model.safetensors", tensors)
        result = self.run_ok("digest", model, "--check", manifest, "--json", status=1).json()["check"]
        self.assertEqual([d["name"] for d in result["differences"]], [name])
        self.assertIn(name, self.run_ok("digest", model, "--check", manifest, status=1).out)

    def test_manifest_tells_renamed_missing_and_extra_tensors(self):
        model = write_model(self.dir / "model")
        self.run_ok("digest", model, "-o", self.dir / "m.json")
        tensors = read_safetensors(model / "model.safetensors")
        tensors["model.layers.0.mlp.renamed.weight"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["more"] = ("F32", [1], f32([1]))
        write_safetensors(model / "model.safetensors", tensors)
        result = self.run_ok("digest", model, "--check", self.dir / "m.json", "--json", status=1).json()["check"]
        told = {difference["name"]: difference["class"] for difference in result["differences"]}
        self.assertEqual(told, {"model.layers.0.mlp.renamed.weight": "renamed", "model.layers.1.mlp.up_proj.weight": "missing", "more": "extra"})
        self.assertEqual(result["differences"][0]["other_name"], "model.layers.0.mlp.up_proj.weight")
        self.assertEqual((result["same_weights"], result["same_config"], result["same_tokenizer"]), (False, True, True))

    def test_a_manifest_that_was_changed_is_found_and_the_part_of_it(self):
        model = write_model(self.dir / "model")
        manifest = self.dir / "m.json"
        whole = self.run_ok("digest", model, "-o", manifest, "--json").json()
        zeros = "0" * 64
        for change, words in (({"root": zeros}, "root, config_hash or tokenizer_hash"), ({"weights_root": zeros}, "weights_root: tensors[] and root agree"),
                              ({"tensors": whole["tensors"][1:]}, "tensors[] or tied[]"), ({"bytes": 1}, "bytes: 1")):
            manifest.write_text(json.dumps(dict(whole, **change)))
            self.run_fails(3, ["m.json", "contradicts itself", words], "digest", model, "--check", manifest)
            # Before a weight is read: where the model is does not matter.
            self.run_fails(3, ["m.json", words], "digest", self.dir / "absent", "--check", manifest)
        tensors = json.loads(json.dumps(whole["tensors"]))
        tensors[3]["digest"] = zeros
        manifest.write_text(json.dumps(dict(whole, tensors=tensors)))
        self.run_fails(3, ["m.json", "tensors[] or tied[]"], "digest", model, "--check", manifest)

    def test_manifest_tells_of_config(self):
        model = write_model(self.dir / "model")
        self.run_ok("digest", model, "-o", self.dir / "m.json")
        write_model(self.dir / "model", config={"rope_theta": 5e6})
        result = self.run_ok("digest", model, "--check", self.dir / "m.json", "--json", status=1).json()["check"]
        self.assertTrue(result["same_weights"])
        self.assertEqual(result["differences"], [])


class Verify(Case):
    FIELDS = ["schema", "verdict", "level", "proves", "does_not_prove", "config", "summary", "tensors", "memory", "seconds",
              "bytes_read"]

    def verdict(self, status, verdict, a, b, *more):
        result = self.run_ok("verify", a, b, "--json", *more, status=status).json()
        self.assertEqual(list(result), self.FIELDS)
        self.assertEqual(result["schema"], "sluice/verify/v1")
        self.assertEqual(result["verdict"], verdict)
        text = self.run_ok("verify", a, b, *more, status=status).out
        self.assertTrue(text.startswith(verdict + " "), text)
        self.assertIn("does not prove", text)
        return result

    def test_identical_across_shards(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", shards=3)
        for level in ("auto", "tensors"):
            result = self.verdict(0, "IDENTICAL", a, b, "--level", level)
            self.assertEqual(result["level"], "tensors")
            self.assertEqual(result["tensors"], [])
            self.assertEqual(result["summary"]["a"]["root"], result["summary"]["b"]["root"])
            self.assertEqual(result["summary"]["identical"], len(cli_models.shapes()))
            self.assertGreater(result["bytes_read"], 0)
            self.assertGreater(result["memory"]["budget"], result["memory"]["peak"])

    def test_config_level_reads_no_weight_and_says_so(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=5)
        result = self.verdict(0, "SAME_CONFIG", a, b, "--level", "config")
        self.assertEqual(result["level"], "config")
        self.assertEqual(result["bytes_read"], 0)
        self.assertIn("weights", result["does_not_prove"])

    def test_another_rope_theta_is_never_identical(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", config={"rope_theta": 5e6})
        for level, read in (("auto", "config"), ("config", "config"), ("tensors", "tensors")):
            result = self.verdict(1, "DIFFERENT_ARCHITECTURE", a, b, "--level", level)
            self.assertEqual(result["level"], read)
            self.assertTrue(any("rope" in key["key"] for key in result["config"]["keys"]))

    def test_another_tokenizer_or_plain_key_is_same_weights(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b")
        (b / "tokenizer.json").write_text("{}")
        result = self.verdict(1, "SAME_WEIGHTS", a, b)
        self.assertFalse(result["config"]["same_tokenizer"])
        self.assertEqual(result["summary"]["a"]["weights_root"], result["summary"]["b"]["weights_root"])
        c = write_model(self.dir / "c", config={"eos_token_id": 7})
        self.verdict(1, "SAME_WEIGHTS", a, c)
        d = write_model(self.dir / "d", tokenizer=False)
        self.verdict(1, "SAME_WEIGHTS", a, d)

    def test_a_fine_tune_is_measured(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=9)
        result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, b)
        self.assertEqual(result["summary"]["changed"], len(cli_models.shapes()))
        tensor = next(t for t in result["tensors"] if t["name"] == "lm_head.weight")
        self.assertEqual(tensor["class"], "changed")
        for key in ("elements", "changed", "max_abs", "relative_l2", "cosine", "nan", "inf", "first_changed"):
            self.assertIn(key, tensor)
        self.assertNotEqual(tensor["a"]["digest"], tensor["b"]["digest"])
        # The figures of the definition, from the numbers themselves.
        dtype, _, data_a = read_safetensors(a / "model.safetensors")["lm_head.weight"]
        data_b = read_safetensors(b / "model.safetensors")["lm_head.weight"][2]
        x, y = decode_bf16(data_a), decode_bf16(data_b)
        self.assertEqual(tensor["changed"], sum(p != q for p, q in zip(x, y)))
        self.assertEqual(tensor["max_abs"], max(abs(p - q) for p, q in zip(x, y)))
        l2 = (sum((p - q) ** 2 for p, q in zip(x, y)) / sum(p * p for p in x)) ** 0.5
        self.assertAlmostEqual(tensor["relative_l2"], l2, delta=1e-12)

    def test_a_lossless_cast_is_0_and_rounding_is_1(self):
        exact = write_model(self.dir / "f32", dtype="F32")
        rounded = write_model(self.dir / "bf16")
        widened = self.dir / "wide"
        self.run_ok("convert", rounded, "-o", widened, "--dtype", "float32")
        self.verdict(0, "EQUAL_AFTER_CAST", rounded, widened)
        result = self.verdict(1, "ROUNDED", exact, rounded)
        self.assertEqual(result["summary"]["rounded_side"], "b")
        self.assertEqual(self.verdict(1, "ROUNDED", rounded, exact)["summary"]["rounded_side"], "a")
        self.verdict(0, "SAME_CONFIG", exact, rounded, "--level", "config")

    def test_tensors_of_one_side(self):
        a = write_model(self.dir / "a", extra={"model.extra": ("F32", [3], f32([1, 2, 3]))})
        b = write_model(self.dir / "b")
        result = self.verdict(1, "DIFFERENT_ARCHITECTURE", a, b)
        self.assertEqual(result["level"], "config")
        self.assertEqual(result["config"]["only_in_a"], ["model.extra"])
        result = self.verdict(1, "DIFFERENT_ARCHITECTURE", a, b, "--level", "tensors")
        self.assertEqual([(t["name"], t["class"]) for t in result["tensors"]], [("model.extra", "only_in_a")])
        c = write_model(self.dir / "c", extra={"model.other": ("F32", [3], f32([1, 2, 3]))})
        result = self.verdict(1, "DIFFERENT_ARCHITECTURE", a, c, "--level", "tensors")
        self.assertEqual([(t["class"], t["other_name"]) for t in result["tensors"]], [("renamed", "model.other")])

    def test_a_stored_copy_of_the_embedding_changes_nothing(self):
        tied = {"tie_word_embeddings": True}
        values = values_of(1)
        copy = {"lm_head.weight": ("BF16", [cli_models.VOCAB, cli_models.HIDDEN], bf16(values["model.embed_tokens.weight"]))}
        a = write_model(self.dir / "a", drop=["lm_head.weight"], config=tied, extra=copy)
        b = write_model(self.dir / "b", drop=["lm_head.weight"], config=tied)
        result = self.verdict(0, "IDENTICAL", a, b)
        self.assertEqual([t["class"] for t in result["tensors"]], ["tied"])
        c = write_model(self.dir / "c", config=tied)  # a head of its own
        result = self.verdict(1, "DIFFERENT_ARCHITECTURE", c, b)
        self.assertEqual(result["level"], "tensors")

    def test_tolerance_never_changes_the_verdict(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=9)
        result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, b, "--atol", "1")
        self.assertEqual(result["summary"]["within_tolerance"], len(cli_models.shapes()))

    def test_first_difference(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=9)
        result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, b, "--first-difference")
        self.assertTrue(result["summary"]["stopped_early"])
        self.assertEqual(len(result["tensors"]), 1)
        self.verdict(0, "IDENTICAL", a, a, "--first-difference")

    def test_a_file_without_config_cannot_be_told_at_the_config_level(self):
        a = write_model(self.dir / "a")
        write_safetensors(self.dir / "alone.safetensors", read_safetensors(a / "model.safetensors"))
        self.verdict(5, "UNDECIDED", a, self.dir / "alone.safetensors", "--level", "config")
        self.verdict(1, "SAME_WEIGHTS", a, self.dir / "alone.safetensors")

    def test_the_same_at_any_thread_count_and_budget(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=9, dtype="F16")
        first = None
        for more in ((), ("--threads", "1"), ("--threads", "4"), ("--max-memory", budgets.mebibytes(64))):
            result = self.run_ok("verify", a, b, "--json", *more, status=1).json()
            told = (result["verdict"], result["summary"], result["tensors"])
            first = first or told
            self.assertEqual(told, first)


class Convert(Case):
    def test_shards_and_back_have_one_root(self):
        model = write_model(self.dir / "model")
        root = self.run_ok("digest", model, "--json").json()["root"]
        result = self.run_ok("convert", model, "-o", self.dir / "many", "--out-shard-size", "9k", "--json").json()
        self.assertEqual(result["schema"], "sluice/convert/v1")
        self.assertEqual(result["root"], root)
        self.assertGreater(len([f for f in result["files"] if f["file"].endswith(".safetensors")]), 2)
        self.assertTrue((self.dir / "many" / "model.safetensors.index.json").exists())
        self.assertTrue((self.dir / "many" / "tokenizer.json").exists())
        self.run_ok("verify", model, self.dir / "many")
        self.run_ok("convert", self.dir / "many", "-o", self.dir / "one")
        self.assertEqual((self.dir / "one" / "model.safetensors").exists(), True)
        self.run_ok("verify", model, self.dir / "one")

    def test_one_file_is_a_checkpoint_without_config(self):
        model = write_model(self.dir / "model", shards=2)
        result = self.run_ok("convert", model, "-o", self.dir / "x.safetensors", "--json").json()
        told = self.run_ok("digest", self.dir / "x.safetensors", "--json").json()
        self.assertEqual(result["root"], told["root"])
        self.assertEqual(result["weights_root"], self.run_ok("digest", model, "--json").json()["weights_root"])

    def test_a_cast_rounds_to_nearest_even(self):
        model = write_model(self.dir / "model", dtype="F32")
        for dtype, name, pack in (("bfloat16", "BF16", bf16), ("f16", "F16", f16)):
            self.run_ok("convert", model, "-o", self.dir / name, "--dtype", dtype)
            for tensor, values in values_of(1).items():
                stored = read_safetensors(self.dir / name / "model.safetensors")[tensor]
                self.assertEqual(stored[0], name)
                self.assertEqual(stored[2], pack(list(struct.unpack(f"<{len(values)}f", f32(values)))), tensor)
        self.assertEqual(json.loads((self.dir / "F16" / "config.json").read_text())["torch_dtype"], "float16")

    def test_set(self):
        model = write_model(self.dir / "model")
        self.run_ok("convert", model, "-o", self.dir / "x", "--set", "max_position_embeddings=4096", "--set",
                    'rope_scaling={"type": "linear", "factor": 2.0}', "--set", "note=plain words")
        config = json.loads((self.dir / "x" / "config.json").read_text())
        self.assertEqual(config["max_position_embeddings"], 4096)
        self.assertEqual(config["rope_scaling"], {"type": "linear", "factor": 2.0})
        self.assertEqual(config["note"], "plain words")
        self.assertEqual(config["hidden_size"], CONFIG["hidden_size"])

    def test_dry_run_writes_nothing(self):
        model = write_model(self.dir / "model")
        result = self.run_ok("convert", model, "-o", self.dir / "x", "--dry-run")
        self.assertIn("memory", result.out)
        plan = self.run_ok("convert", model, "-o", self.dir / "x", "--dry-run", "--json").json()["plan"]
        for key in ("bytes_read", "bytes_written", "peak_memory_bytes", "tile_bytes", "seconds"):
            self.assertIn(key, plan)
        self.assertFalse((self.dir / "x").exists())
        for command in (("digest", model), ("verify", model, model)):
            self.assertTrue(self.run_ok(*command, "--dry-run", "--json").json()["dry_run"])


class Gguf(Case):
    def test_one_root_in_two_containers(self):
        gguf = write_gguf(self.dir / "x.gguf", quantised=False, tokens=False)
        model = write_model(self.dir / "model", dtype="F32", tokenizer=False)
        a, b = (self.run_ok("digest", ref, "--json").json() for ref in (gguf, model))
        self.assertEqual(a["weights_root"], b["weights_root"])  # names, shapes and the rows of Q and K
        result = self.run_ok("inspect", gguf, "--json").json()
        self.assertEqual(result["kind"], "gguf")
        self.assertEqual(result["architecture"], "LlamaForCausalLM")
        self.assertEqual(result["parameters"], result["parameters_from_config"])

    def test_blocks_need_a_dtype_to_become_safetensors(self):
        gguf = write_gguf(self.dir / "x.gguf")
        self.run_fails(2, ["Q8_0", "--dtype"], "convert", gguf, "-o", self.dir / "out")
        self.assertFalse((self.dir / "out").exists())

    def test_rounded_blocks_and_their_exact_decoding(self):
        gguf = write_gguf(self.dir / "x.gguf", tokens=False)
        self.run_ok("convert", gguf, "-o", self.dir / "bf16", "--dtype", "bfloat16")
        result = self.run_ok("verify", gguf, self.dir / "bf16", "--json", status=1).json()
        self.assertEqual(result["verdict"], "ROUNDED")
        self.assertEqual(result["summary"]["rounded_side"], "b")
        self.run_ok("convert", gguf, "-o", self.dir / "f32", "--dtype", "float32")
        result = self.run_ok("verify", gguf, self.dir / "f32", "--json").json()
        self.assertEqual(result["verdict"], "EQUAL_AFTER_CAST")

    def test_a_tokenizer_that_cannot_be_files_is_told(self):
        gguf = write_gguf(self.dir / "x.gguf")  # kind llama, without its bytes
        result = self.run_ok("convert", gguf, "-o", self.dir / "f32", "--dtype", "float32", "--json")
        self.assertIn("the output has no tokenizer", result.err)
        self.assertEqual(result.json()["root"], self.run_ok("digest", self.dir / "f32", "--json").json()["root"])
        verdict = self.run_ok("verify", gguf, self.dir / "f32", "--json", status=1).json()
        self.assertEqual(verdict["verdict"], "SAME_WEIGHTS")
        self.assertFalse(verdict["config"]["same_tokenizer"])


class Merge(Case):
    def setUp(self):
        super().setUp()
        write_model(self.dir / "base")
        for i in range(3):
            write_model(self.dir / f"tune{i}", update_seed=i + 2, shards=1 + i)
        models = [(f"tune{i}", {"weight": 0.3 + i / 10, "density": 0.5}) for i in range(3)]
        self.recipe = self.dir / "recipe.yml"
        self.recipe.write_text("# a remark that stays\n" + recipe_text("dare_ties", "base", models))

    def test_merge_is_what_the_recipe_digests_to_and_verifies(self):
        out = self.dir / "deep" / "merged"
        merged = self.run_ok("merge", self.recipe, "-o", out, "--seed", "7", "--json").json()
        self.assertEqual(merged["schema"], "sluice/merge/v1")
        for key in ("root", "files", "tensors", "arithmetic", "seed", "bytes_read", "bytes_written", "seconds",
                    "peak_memory_bytes"):
            self.assertIn(key, merged)
        self.assertEqual(merged["seed"], 7)
        self.assertEqual(merged["arithmetic"], "exact")
        self.assertEqual(self.run_ok("digest", self.recipe, "--seed", "7", "--json").json()["root"], merged["root"])
        self.assertEqual(self.run_ok("digest", out, "--json").json()["root"], merged["root"])
        self.assertNotEqual(self.run_ok("digest", self.recipe, "--json").json()["root"], merged["root"])
        self.assertEqual((out / "mergekit_config.yml").read_text(), self.recipe.read_text())
        self.assertTrue((out / "tokenizer.json").exists())
        # The seed comes from the statement, on either side.
        result = self.run_ok("verify", out, self.recipe, "--json").json()
        self.assertEqual(result["verdict"], "IDENTICAL")
        self.assertIn("seed 7", result["summary"]["b"]["computed"])
        self.assertEqual(self.run_ok("verify", self.recipe, out, "--json").json()["verdict"], "IDENTICAL")
        # A seed that is given wins.
        self.assertEqual(self.run_ok("verify", out, self.recipe, "--seed", "8", "--json", status=1).json()["verdict"],
                         "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        # The folder against its own statement.
        result = self.run_ok("verify", out, "--json").json()
        self.assertEqual(result["verdict"], "IDENTICAL")
        self.assertEqual(list(result), Verify.FIELDS)
        self.assertIn("verify", result["does_not_prove"])

    def test_a_folder_that_was_changed_is_not_what_its_statement_says(self):
        out = self.dir / "merged"
        self.run_ok("merge", self.recipe, "-o", out)
        tensors = read_safetensors(out / "model.safetensors")
        dtype, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, bytes([data[0] ^ 1]) + data[1:])
        write_safetensors(out / "model.safetensors", tensors)
        result = self.run_ok("verify", out, "--json", status=1).json()
        self.assertEqual(result["verdict"], "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertEqual([t["name"] for t in result["tensors"]], ["model.norm.weight"])
        self.run_ok("merge", self.recipe, "-o", out, "--force")
        self.run_ok("verify", out)
        (out / "tokenizer.json").write_text("{}")
        self.assertEqual(self.run_ok("verify", out, "--json", status=1).json()["verdict"], "SAME_WEIGHTS")

    def test_mergekits_own_command_line(self):
        out = self.dir / "merged"
        result = self.run_ok("merge", self.recipe, out, "--lazy-unpickle", "--copy-tokenizer", "--cuda", "--random-seed", "3",
                             "--out-shard-size", "1B", "--lora-merge-cache", "/tmp/x", "--no-write-model-card")
        for flag in ("--lazy-unpickle", "--copy-tokenizer", "--cuda", "--lora-merge-cache", "--no-write-model-card"):
            self.assertIn(flag, result.err)
        self.assertEqual(json.loads((out / "sluice_merge.json").read_text())["seed"], 3)

    def test_check_reads_no_weight_and_writes_nothing(self):
        result = self.run_ok("merge", self.recipe, "--check", "--json").json()
        self.assertEqual(result["tensors"], len(cli_models.shapes()))
        self.assertEqual(result["method"], "dare_ties")

    def test_nan(self):
        values = values_of(1)["model.norm.weight"]
        values[3] = float("nan")
        norm = {"model.norm.weight": ("BF16", [len(values)], bf16(values))}
        write_model(self.dir / "sick", extra=norm)
        self.recipe.write_text(recipe_text("linear", None, [("base", {"weight": 0.5}), ("sick", {"weight": 0.5})]))
        result = self.run_ok("merge", self.recipe, "-o", self.dir / "kept", "--json").json()
        self.assertEqual(result["nan"], [{"name": "model.norm.weight", "count": 1}])
        self.run_fails(3, ["model.norm.weight", "nan"], "merge", self.recipe, "-o", self.dir / "out", "--nan", "refuse")
        self.assertFalse((self.dir / "out").exists())

    def test_a_set_parameter_is_in_the_statement(self):
        out = self.dir / "merged"
        self.run_ok("merge", self.recipe, "-o", out, "--set", "parameters.lambda=0.5")
        plain = self.run_ok("digest", self.recipe, "--json").json()["root"]
        statement = json.loads((out / "sluice_merge.json").read_text())
        self.assertNotEqual(statement["root"], plain)
        self.assertIn("parameters.lambda=0.5", json.dumps(statement))


if __name__ == "__main__":
    cli_models.main()
