"""docs/formats/verify.schema.json over what `verify --json` prints: every level and verdict is valid, and what is misspelt, missing, more or of
another type is not."""

import json
import os
import pathlib
import shutil

import cli_models
import json_schemas
from cli_models import Case, bf16, f32, q8_0, read_safetensors, recipe_text, sluice, values_of, write_model, write_safetensors

DATA = pathlib.Path(__file__).resolve().parent / "data" / "model_signing"
# Keys that may be left away: what they tell of does not apply to every model, and nothing else in the answer says whether it does.
OPTIONAL = {
    "computed",  # how a recipe's side was computed
    "fingerprint",  # at the level tensors: auto had drawn blocks before
    "changes.units", "rank", "units", "rows", "grid", "place", "first_changed",  # of a tensor
    "tokenizer.merges", "tokenizer.problem",  # of tokenizers that have merges, that cannot be read
    "summary.sample", "summary.facts", "summary.statement", "summary.manifest",  # what was asked
    "other_name",  # of a manifest's differences
    "differences[].recorded", "differences[].now", "replay",
}
# Parts of a model (config.parts) are keys of their own: each may be away.
PARTS = {"embedding", "attention", "mixer", "mlp", "experts", "norms", "head", "other"}


def is_optional(path):
    words = [("[]" if isinstance(part, int) else part) for part in path]
    dotted = ".".join(words).replace(".[]", "[]")
    return any(dotted == key or dotted.endswith("." + key) or dotted.endswith("]." + key) for key in OPTIONAL)


class Schema(Case):
    validator = json_schemas.load("verify")

    def told(self, *arguments, status=None, verdict=None, level=None, cwd=None):
        """What a command prints, which must be valid; kept by its level and verdict."""
        result = sluice("verify", *arguments, "--json", cwd=cwd or self.dir)
        if status is not None:
            self.assertEqual(result.status, status, result)
        value = result.json()
        self.assertEqual(json_schemas.complaints(self.validator, value), [], result)
        if verdict:
            self.assertEqual((value["level"], value["verdict"]), (level, verdict))
        return value

    def rejects(self, value):
        """Every change of the value is found; returns how many were tried."""
        count = 0
        for path, what, mutant in json_schemas.mutants(value):
            if what == "gone" and (is_optional(path) or path[-1] in PARTS):
                continue
            # A replay tells of any field, whatever its value.
            if "recorded" in path or "now" in path:
                if what != "misspelt" or path[-1] not in ("recorded", "now"):
                    continue
            self.assertFalse(self.validator.is_valid(mutant), f"{what}: {'.'.join(map(str, path))}")
            count += 1
        return count

    # --- models ---

    def lora(self, name):
        """The base with two products of rank 1 added to two matrices, and three rows of the embedding changed."""
        values, extra = values_of(1, hidden=64), {}
        sizes = cli_models.shapes(hidden=64)
        for name_of in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight"):
            rows, columns = sizes[name_of]
            u, v = cli_models.normal(7, rows, 0.1), cli_models.normal(8, columns, 0.5)
            extra[name_of] = ("BF16", [rows, columns], bf16([w + u[i // columns] * v[i % columns] for i, w in enumerate(values[name_of])]))
        embedding = values["model.embed_tokens.weight"]
        for row in (3, 4, 9):
            embedding[row * 64] += 1
        extra["model.embed_tokens.weight"] = ("BF16", sizes["model.embed_tokens.weight"], bf16(embedding))
        return write_model(self.dir / name, hidden=64, extra=extra)

    def test_the_level_config(self):
        a = write_model(self.dir / "a")
        vocabulary = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
        b = write_model(self.dir / "b", config={"rope_theta": 5e6, "torch_dtype": "float32"}, extra={"model.extra": ("F32", [3], f32([1, 2, 3]))})
        c = write_model(self.dir / "c", vocab=43)
        for folder, words in ((a, vocabulary), (b, {"model": dict(vocabulary["model"], vocab={"a": 0, "b": 2, "c": 1}, merges=["a c"])})):
            (folder / "tokenizer.json").write_text(json.dumps(words))
        (a / "generation_config.json").write_text('{"temperature": 0.5}')
        (b / "generation_config.json").write_text('{"temperature": 0.6}')
        (b / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "chat_template": "x"}')
        (a / "LICENSE").write_text("x")
        write_safetensors(self.dir / "alone.safetensors", read_safetensors(a / "model.safetensors"))
        self.told(a, a, "--level", "config", status=0, level="config", verdict="SAME_CONFIG")
        self.told(a, "alone.safetensors", "--level", "config", status=5, level="config", verdict="UNDECIDED")
        tried = 0
        for left, right in ((a, b), (b, a), (a, c)):
            tried += self.rejects(self.told(left, right, status=1, level="config", verdict="DIFFERENT_ARCHITECTURE"))
        self.assertGreater(tried, 400)

    def test_the_level_fingerprint(self):
        a, b, wide = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=3), write_model(self.dir / "wide", dtype="F32")
        other = write_model(self.dir / "other", config={"rope_theta": 5e6})
        level = ("--level", "fingerprint")
        self.told(a, a, *level, status=0, level="fingerprint", verdict="SAME_SAMPLE")
        self.told(a, wide, *level, status=5, level="fingerprint", verdict="UNDECIDED")
        self.told(a, other, *level, status=1, level="fingerprint", verdict="DIFFERENT_ARCHITECTURE")
        result = self.told(a, b, *level, status=1, level="fingerprint", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertGreater(self.rejects(result), 150)
        self.run_ok("fingerprint", a, "-o", self.dir / "f.json")
        self.told(a, "--against", "f.json", status=0, level="fingerprint", verdict="SAME_SAMPLE")
        self.rejects(self.told(wide, "--against", "f.json", status=5, level="fingerprint", verdict="UNDECIDED"))
        self.told(b, "--against", "f.json", status=1, level="fingerprint", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")

    def test_the_level_tensors(self):
        a = write_model(self.dir / "a", hidden=64)
        wide = self.dir / "wide"
        self.run_ok("convert", a, "-o", wide, "--dtype", "float32")
        f32_model = write_model(self.dir / "f32", hidden=64, dtype="F32")
        keyed = write_model(self.dir / "keyed", hidden=64, tokenizer=False)
        self.told(a, a, status=0, level="tensors", verdict="IDENTICAL")
        self.told(a, wide, status=0, level="tensors", verdict="EQUAL_AFTER_CAST")
        self.rejects(self.told(a, f32_model, status=1, level="tensors", verdict="ROUNDED"))
        self.told(a, keyed, status=1, level="tensors", verdict="SAME_WEIGHTS")
        result = self.told(a, self.lora("lora"), status=1, level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertEqual({"rank", "units", "rows", "place"} - {key for tensor in result["tensors"] for key in tensor}, set())
        self.assertIn("LoRA", result["summary"]["changes"]["sentence"])
        self.assertGreater(self.rejects(result), 400)
        tuned = write_model(self.dir / "tuned", hidden=64, update_seed=4)
        self.told(a, tuned, "--atol", "1", status=1, level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.rejects(self.told(a, tuned, "--first-difference", status=1, level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))

    def test_other_sets_of_tensors(self):
        extra = lambda name, shape: {name: ("F32", shape, f32([1] * cli_models.product(shape)))}
        a = write_model(self.dir / "a", extra={**extra("model.one", [6]), **extra("model.shaped", [2, 3])})
        b = write_model(self.dir / "b", extra={**extra("model.two", [6]), **extra("model.shaped", [3, 2]), **extra("model.three", [5])})
        c = write_model(self.dir / "c", extra=extra("model.lonely", [7]))
        level = ("--level", "tensors")
        for left, right in ((a, b), (b, a), (a, c), (c, b)):
            self.rejects(self.told(left, right, *level, status=1, level="tensors", verdict="DIFFERENT_ARCHITECTURE"))
        self.told(a, b, *level, "--first-difference", status=1, level="tensors", verdict="DIFFERENT_ARCHITECTURE")
        copy = {"lm_head.weight": ("BF16", [cli_models.VOCAB, cli_models.HIDDEN], bf16(values_of(1)["model.embed_tokens.weight"]))}
        tied = {"tie_word_embeddings": True}
        with_head = write_model(self.dir / "head", drop=["lm_head.weight"], config=tied, extra=copy)
        without = write_model(self.dir / "headless", drop=["lm_head.weight"], config=tied)
        result = self.told(with_head, without, status=0, level="tensors", verdict="IDENTICAL")
        self.assertEqual([tensor["class"] for tensor in result["tensors"]], ["tied"])
        self.rejects(result)

    def test_odd_numbers_and_grids(self):
        name = "model.layers.0.mlp.gate_proj.weight"
        shape = cli_models.shapes()[name]
        count = cli_models.product(shape)
        block = q8_0(values_of(1)[name])
        grid = []
        for at in range(0, len(block), 34):
            d, *q = cli_models.struct.unpack("<e32b", block[at:at + 34])
            grid += [d * x for x in q]
        odd = {"nan": [float("nan")] * count, "inf": [float("inf")] * count, "zero": [0.0] * count, "grid": grid, "large": [3e38] * count,
               "negative": [-3e38] * count}
        models = {key: write_model(self.dir / key, extra={name: ("F32", shape, f32(values))}) for key, values in odd.items()}
        for left in models:
            for right in models:
                self.told(models[left], models[right], "--level", "tensors")
                self.told(models[left], models[right], "--level", "fingerprint")
        self.rejects(self.told(models["zero"], models["grid"], level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))

    def test_merges_and_their_papers(self):
        for seed, name in enumerate(("base", "one", "two"), 1):
            write_model(self.dir / name, seed=seed)
        (self.dir / "r.yml").write_text(recipe_text("ties", "base", [("one", {"weight": 0.5, "density": 0.5}), ("two", {"weight": 0.3, "density": 0.5})]))
        merged = self.dir / "merged"
        self.run_ok("merge", "r.yml", "-o", merged, cwd=self.dir)
        result = self.told("merged", "r.yml", status=0, level="tensors", verdict="IDENTICAL")
        self.assertIn("computed", result["summary"]["b"])
        self.rejects(self.told("merged", status=0, level="tensors", verdict="IDENTICAL"))
        audit = ("merged", "--sample", "1", "--facts", "1")
        self.told(*audit, status=0, level="sample", verdict="SAME_SAMPLE")
        self.told("merged", "--sample", "1", status=0, level="sample", verdict="SAME_SAMPLE")
        config = (merged / "config.json").read_text()
        (merged / "config.json").write_text(config.replace("10000.0", "20000.0"))
        self.told("merged", status=1, level="tensors", verdict="SAME_WEIGHTS")
        self.rejects(self.told(*audit, status=1, level="sample", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))
        (merged / "config.json").write_text(config)
        tensors = read_safetensors(merged / "model.safetensors")
        dtype, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
        write_safetensors(merged / "model.safetensors", tensors)
        self.rejects(self.told("merged", status=1, level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))
        self.rejects(self.told(*audit, status=1, level="sample", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))
        # A signature over a folder whose statement is not of it.
        self.sign(merged)
        signed = self.signed(merged)
        self.rejects(self.told(*signed, status=1, level="files", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))
        del tensors["model.norm.weight"]
        tensors["model.norms.weight"] = (dtype, shape, data)
        write_safetensors(merged / "model.safetensors", tensors)
        self.rejects(self.told("merged", status=1, level="tensors", verdict="DIFFERENT_ARCHITECTURE"))
        self.sign(merged)
        self.told(*signed, status=1, level="files", verdict="DIFFERENT_ARCHITECTURE")

    def sign(self, model):
        key = self.dir / "key.pem"
        shutil.copy(DATA / "p256.key.pem", key)
        os.chmod(key, 0o600)
        self.run_ok("sign", model, "--key", key, "--force")

    def signed(self, model):
        return (model, "--signature", model / "model.sig", "--key", DATA / "p256.pub.pem")

    def test_signatures(self):
        model = write_model(self.dir / "model")
        self.sign(model)
        signed = self.signed(model)
        self.rejects(self.told(*signed, status=0, level="files", verdict="IDENTICAL"))
        other = write_model(self.dir / "other", update_seed=2, config={"rope_theta": 5e6})
        self.run_ok("digest", other, "-o", self.dir / "manifest.json")
        self.run_ok("digest", write_model(self.dir / "keyed", config={"rope_theta": 5e6}), "-o", self.dir / "keyed.json")
        self.rejects(self.told(*signed, "--manifest", "manifest.json", status=1, level="files", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS"))
        self.told(*signed, "--manifest", "keyed.json", status=1, level="files", verdict="SAME_WEIGHTS")
        (model / "config.json").write_text("{}")
        (model / "tokenizer.json").unlink()
        (model / "notes.txt").write_text("x")
        result = self.told(*signed, status=1, level="files", verdict="DIFFERENT_FILES")
        self.assertEqual({file["class"] for file in result["files"]}, {"changed", "missing", "extra"})
        self.assertGreater(self.rejects(result), 100)

    def test_replays(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=3)
        self.told(a, b, "--evidence", "proof", status=1, level="tensors", verdict="SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertTrue(self.told("--replay", "proof", status=0)["replay"]["reproduced"])
        result = self.told("--replay", "proof", a, write_model(self.dir / "c", tokenizer=False), status=1)
        self.assertFalse(result["replay"]["reproduced"])
        self.assertGreater(self.rejects(result), 200)

    def test_plans_and_errors(self):
        a = write_model(self.dir / "a")
        self.sign(a)
        for plan in (self.told(a, a, "--level", "tensors", "--dry-run", status=0), self.told(*self.signed(a), "--dry-run", status=0)):
            self.assertTrue(plan["dry_run"])
            self.assertGreater(self.rejects(plan), 15)
        (self.dir / "bad.safetensors").write_bytes(b"x" * 20)
        (self.dir / "bad.yml").write_text("merge_method: nothing\n")
        for status, *arguments in ((2, a), (2, a, a, a), (2, a, "--level", "behaviour"), (3, a, "nowhere"), (3, a, "bad.safetensors"),
                                   (2, a, "bad.yml"), (4, a, a, "--max-memory", "1MiB"), (2, a, a, "--evidence", a), (2, a, a, "--zzz")):
            error = self.told(*arguments, status=status)
            self.assertEqual(error["schema"], "sluice/error/v1")
            self.rejects(error)

    def test_the_level_behaviour(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", seed=2)
        level = ("--level", "behaviour", "--challenges", "24")
        self.told(a, a, "--level", "behaviour", "--challenges", "206", "--challenge-tokens", "2", status=0, level="behaviour", verdict="SAME_BEHAVIOUR")
        result = self.told(a, b, *level, "--gamma", "0.001", status=1, level="behaviour", verdict="DIFFERENT_BEHAVIOUR")
        self.assertGreater(self.rejects(result), 200)
        # Who reads by the schema is never told SAME by a failed run, nor a verdict by a part.
        undecided = self.told(a, a, *level, status=5, level="behaviour", verdict="UNDECIDED")
        for wrong in ("SAME_BEHAVIOUR", "DIFFERENT_BEHAVIOUR", "INVALID", "IDENTICAL", None):
            self.assertFalse(self.validator.is_valid(dict(undecided, verdict=wrong)), wrong)
        (a / "p.txt").write_text("\n")
        invalid = self.told(a, b, *level, "--prompts", a / "p.txt", status=3, level="behaviour", verdict="INVALID")
        part = self.told(a, b, *level, "--part", "1/2", "--nonce", "0" * 32, "--evidence", "part", status=0)
        self.assertIsNone(part["verdict"])
        for value in (invalid, part):
            for wrong in ("SAME_BEHAVIOUR", "DIFFERENT_BEHAVIOUR", "UNDECIDED"):
                self.assertFalse(self.validator.is_valid(dict(value, verdict=wrong)), wrong)
        self.rejects(self.told(a, b, *level, "--dry-run", status=0))

    def test_words_of_another_level_are_rejected(self):
        """Who reads by the schema is never told IDENTICAL by a level that has not read every byte."""
        a = write_model(self.dir / "a")
        dearer = {"config": ["IDENTICAL", "SAME_WEIGHTS", "SAME_SAMPLE"], "fingerprint": ["IDENTICAL", "SAME_CONFIG"],
                  "tensors": ["SAME_SAMPLE", "SAME_CONFIG", "DIFFERENT_FILES", "VERY_SIMILAR"]}
        for level, verdicts in dearer.items():
            result = self.told(a, a, "--level", level, status=0)
            for verdict in verdicts:
                self.assertFalse(self.validator.is_valid(dict(result, verdict=verdict)), (level, verdict))
            for other in ("config", "fingerprint", "tensors", "files", "sample", "behaviour"):
                self.assertEqual(self.validator.is_valid(dict(result, level=other)), other == level, (level, other))
        b = write_model(self.dir / "b", update_seed=2)
        result = self.told(a, b, status=1)
        self.assertFalse(self.validator.is_valid(dict(result, verdict="IDENTICAL")))  # with changed tensors in the list
        self.assertFalse(self.validator.is_valid(dict(result, verdict="ROUNDED")))


if __name__ == "__main__":
    cli_models.main()
