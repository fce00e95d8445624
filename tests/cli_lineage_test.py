"""lineage: merges of known recipe, made by the program itself, come back: weights, densities, kinds; what cannot be told is said."""

import os
import struct
import subprocess

import cli_models
from cli_models import Case, read_safetensors, write_safetensors

SYNTH = os.path.join(os.environ.get("SLUICE_BUILD", ""), "sluice_synth")
WEIGHTS = [0.14, 0.14, 0.14, 0.22, 0.14, 0.14, 0.08]
DENSITIES = [0.62, 0.62, 0.52, 0.62, 0.52, 0.52, 0.08]


class Lineage(Case):
    def setUp(self):
        super().setUp()
        self.base = self.dir / "base"
        self.synth("model", "--shape", "tiny", "--layers", 3, "-o", self.base, "--seed", 101)  # no tune has that seed: its update would be the base again

    def synth(self, *arguments):
        subprocess.run([SYNTH, *map(str, arguments), "--quiet"], check=True)

    def tune(self, seed, base=None, **options):
        folder = self.dir / f"tune-{seed}"
        if not folder.exists():
            more = [word for key, value in options.items() for word in (f"--{key}", value)]
            self.synth("finetune", base or self.base, "-o", folder, "--seed", seed, *more)
        return folder

    def tunes(self, count):
        return [self.tune(seed) for seed in range(1, count + 1)]

    def merge(self, method, models, weights, densities=None, top="", base_weight=None, dtype="bfloat16", name="merged"):
        lines = [f"merge_method: {method}", f"base_model: {self.base}", f"dtype: {dtype}", "models:", f"  - model: {self.base}"]
        if base_weight is not None:
            lines.append(f"    parameters: {{weight: {base_weight}}}")
        for i, (model, weight) in enumerate(zip(models, weights)):
            density = f", density: {densities[i]}" if densities else ""
            lines += [f"  - model: {model}", f"    parameters: {{weight: {weight}{density}}}"]
        recipe = self.dir / f"{name}.yml"
        recipe.write_text("\n".join(lines) + "\n" + top)
        self.run_ok("merge", recipe, "-o", self.dir / name, "--quiet")
        return self.dir / name

    def lineage(self, model, candidates, *more, base=None):
        return self.run_ok("lineage", model, "--base", base or self.base, "--candidates", *candidates, "--json", *more).json()

    def assert_recovered(self, told, weights, densities=None, name=None):
        """Within 6 of the errors that were told (of 7 degrees of freedom 0.05% lie beyond), which are small."""
        best = told["kind"]["fits"][0]
        if name:
            self.assertEqual(told["kind"]["name"], name)
        self.assertEqual(len(best["weights"]), len(weights))
        for i, (got, weight) in enumerate(zip(best["weights"], weights)):
            self.assertLess(abs(got["weight"] - weight), 6 * got["error"] + 2e-3 * weight, (i, got, weight))
            self.assertLess(got["error"], 0.15 * weight, (i, got))
            if densities:
                self.assertLess(abs(got["density"] - densities[i]), 6 * got["density_error"] + 2e-3, (i, got))

    # -----------------------------------------------------------------------------------------------------------------

    def test_seven_parents_of_the_demo_come_back_from_every_kind_of_merge(self):
        tunes, unrelated = self.tunes(7), self.tune(8)
        sevenths = [w / 1.2 for w in WEIGHTS]
        for method, base_weight, name, weights, densities in (
                ("linear", 0.2, "linear or task_arithmetic", sevenths, None),
                ("dare_linear", None, "dare_linear", WEIGHTS, DENSITIES),
                ("ties", None, "ties", WEIGHTS, DENSITIES),
                ("dare_ties", None, "dare_ties", WEIGHTS, DENSITIES)):
            with self.subTest(method):
                merged = self.merge(method, tunes, WEIGHTS, densities, base_weight=base_weight, name=method)
                told = self.lineage(merged, [*tunes, unrelated])
                self.assertEqual(told["schema"], "sluice/lineage/v1")
                self.assert_recovered(told, weights, densities, name)
                self.assertEqual(told["kind"]["equally_good"], 1)
                last = told["candidates"][7]
                self.assertEqual(last["standing"], "fitted")
                self.assertLess(abs(last["coefficient"]), 4 * last["error"])
                self.assertNotIn(str(unrelated), [w["ref"] for w in told["kind"]["fits"][0]["weights"]])
                if method in ("linear", "dare_linear"):
                    for got, weight in zip(told["candidates"], weights):
                        self.assertLess(abs(got["coefficient"] - weight), 4.5 * got["error"], got)
                else:  # the consensus makes more of the weights than they are, and it is said
                    ratio = sum(c["coefficient"] for c in told["candidates"][:7]) / sum(weights)
                    self.assertGreater(ratio, 1.1)
                    text = self.run_ok("lineage", merged, "--base", self.base, "--candidates", *tunes, unrelated).out
                    self.assertIn("effective coefficient", text)
                    self.assertIn(f"({name})", text.splitlines()[0])

    def test_task_arithmetic_without_rounding_is_exact(self):
        tunes = [self.tune(seed, dtype="float32") for seed in (1, 2, 3)]
        merged = self.merge("task_arithmetic", tunes, [0.5, -0.25, 0.8], dtype="float32")
        told = self.lineage(merged, tunes)
        self.assertGreater(told["r_squared"], 1 - 1e-8)
        for got, weight in zip(told["candidates"], [0.5, -0.25, 0.8]):
            self.assertLess(abs(got["coefficient"] - weight), 1e-6)
            self.assertLess(got["error"], 1e-6)

    def test_the_same_numbers_at_any_threads_budget_and_sharding(self):
        tunes = self.tunes(3)
        merged = self.merge("dare_ties", tunes, [0.5, 0.3, 0.4], [0.5, 0.6, 0.7])
        self.run_ok("convert", merged, "-o", self.dir / "sharded", "--out-shard-size", "100KB", "--quiet")
        wanted = self.lineage(merged, tunes, "--threads", 1)
        for model, more in ((merged, ["--threads", 3]), (merged, ["--threads", 2, "--max-memory", "96MiB"]),
                            (self.dir / "sharded", []), (self.dir / "merged.yml", [])):
            told = self.lineage(model, tunes, *more)
            for key in ("r_squared", "candidates", "base_itself", "kind", "layers", "tensors", "equal_to_base"):
                self.assertEqual(told[key], wanted[key], (model, key))
            self.assertLessEqual(told["bytes_read"], wanted["bytes_read"] * 2)
        # Each stored byte once: MODEL, BASE and three candidates.
        bytes_of = self.run_ok("inspect", self.base, "--json").json()["bytes"]
        self.assertEqual(wanted["bytes_read"], 5 * bytes_of)

    def test_a_candidate_given_twice_and_one_equal_to_the_base_are_told(self):
        tunes = self.tunes(2)
        merged = self.merge("task_arithmetic", tunes, [0.6, 0.3])
        self.run_ok("convert", tunes[0], "-o", self.dir / "again", "--quiet")
        told = self.lineage(merged, [tunes[0], self.dir / "again", tunes[1], self.base])
        first, again, second, equal = told["candidates"]
        self.assertEqual(again["standing"], "alias")
        self.assertIsNone(again["coefficient"])
        self.assertEqual([(a["ref"], round(a["factor"], 6)) for a in again["alias"]], [(str(tunes[0]), 1)])
        self.assertEqual(equal["standing"], "equal_to_base")
        self.assertLess(abs(first["coefficient"] - 0.6), 4.5 * first["error"] + 1e-3)
        self.assertLess(abs(second["coefficient"] - 0.3), 4.5 * second["error"] + 1e-3)
        text = self.run_ok("lineage", merged, "--base", self.base, "--candidates", tunes[0], self.dir / "again", self.base).out
        self.assertIn("cannot be told from", text)
        self.assertIn("equal to the base", text)

    def test_a_fine_tune_of_another_candidate_is_told_apart_as_far_as_the_numbers_allow(self):
        first = self.tune(1, dtype="float32")
        child = self.dir / "child"
        self.synth("finetune", first, "-o", child, "--seed", 2, "--scale", "0.001", "--dtype", "float32")
        merged = self.merge("task_arithmetic", [first], [0.5])
        told = self.lineage(merged, [first, child])
        for got, weight in zip(told["candidates"], [0.5, 0]):
            self.assertLess(got["own_share"], 0.03)  # 1 / 101
            self.assertLess(abs(got["coefficient"] - weight), 4.5 * got["error"])

    def test_the_identical_model_and_the_base_itself(self):
        tunes = self.tunes(2)
        told = self.lineage(tunes[0], tunes)
        self.assertEqual(told["r_squared"], 1)
        self.assertLess(abs(told["candidates"][0]["coefficient"] - 1), 1e-3)
        self.assertLess(abs(told["candidates"][1]["coefficient"]), 1e-3)
        self.assertIn("without a rest", told["kind"]["not_fitted"])
        told = self.lineage(self.base, tunes)
        self.assertIsNone(told["r_squared"])
        self.assertEqual([c["coefficient"] for c in told["candidates"]], [0, 0])
        self.assertEqual(told["equal_to_base"], told["elements"])
        self.assertEqual(told["kind"]["not_fitted"], "the model is the base")
        text = self.run_ok("lineage", self.base, "--base", self.base, "--candidates", *tunes).out
        self.assertIn("no number differs", text.splitlines()[0])

    def test_a_wrong_base_and_unrelated_candidates(self):
        other = self.dir / "other"
        self.synth("model", "--shape", "tiny", "--layers", 3, "-o", other, "--seed", 99)
        tunes = self.tunes(2)
        merged = self.merge("task_arithmetic", tunes, [0.3, 0.3])
        told = self.lineage(merged, tunes, base=other)
        self.assertTrue(told["base_doubtful"])
        self.assertIn("may not be what they were made from",
                      self.run_ok("lineage", merged, "--base", other, "--candidates", *tunes).out)
        self.assertFalse(self.lineage(merged, tunes)["base_doubtful"])
        unrelated = [self.tune(7), self.tune(8)]
        told = self.lineage(merged, unrelated)
        self.assertLess(told["r_squared"], 0.01)
        self.assertIn("no candidate", told["kind"]["not_fitted"])

    def test_weights_that_do_not_sum_to_1_scale_the_base(self):
        tunes = self.tunes(2)
        merged = self.merge("linear", tunes, [0.5, 0.3], base_weight=0.1, top="parameters: {normalize: false}\n")
        told = self.lineage(merged, tunes)
        self.assertLess(abs(told["base_itself"]["coefficient"] + 0.1), 1e-3)
        self.assertIn("not 0", self.run_ok("lineage", merged, "--base", self.base, "--candidates", *tunes).out)

    def test_slices_with_other_weights_are_seen_by_layer(self):
        tunes = self.tunes(2)
        slices = "slices:\n"
        for layer, weight in enumerate((0.2, 0.5, 0.8)):
            slices += "  - sources:\n" + "".join(
                f"      - model: {tune}\n        layer_range: [{layer}, {layer + 1}]\n        parameters: {{weight: {w}}}\n"
                for tune, w in zip(tunes, (weight, 1 - weight)))
        recipe = self.dir / "slices.yml"
        recipe.write_text(f"merge_method: linear\ndtype: bfloat16\n{slices}")
        self.run_ok("merge", recipe, "-o", self.dir / "sliced", "--quiet")
        told = self.lineage(self.dir / "sliced", tunes)
        layers = [layer for layer in told["layers"] if layer["layer"] is not None]
        for layer, weight in zip(layers, (0.2, 0.5, 0.8)):
            for got, wanted in zip(layer["coefficients"], (weight, 1 - weight)):
                self.assertLess(abs(got["value"] - wanted), 0.06)
        self.assertGreater(told["candidates"][0]["spread_between_layers"], 0.1)
        self.assertIn("differ between layers", told["kind"]["not_fitted"])
        text = self.run_ok("lineage", self.dir / "sliced", "--base", self.base, "--candidates", *tunes).out
        self.assertIn("differs between layers", text)

    def test_nan_other_vocabularies_and_missing_tensors_are_left_out_by_name(self):
        tunes = self.tunes(3)
        merged = self.merge("task_arithmetic", tunes, [0.5, 0.3, 0.2])
        nan, rows, missing = "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"
        for tune, change in ((tunes[0], nan), (tunes[1], rows), (tunes[2], missing)):
            path = tune / "model.safetensors"
            tensors = read_safetensors(path)
            dtype, shape, data = tensors[change]
            if change == nan:
                tensors[change] = (dtype, shape, data[:100] + struct.pack("<H", 0x7FC0) + data[102:])
            elif change == rows:
                tensors[change] = (dtype, [shape[0] + 3, shape[1]], data + data[: 3 * 2 * shape[1]])
            else:
                del tensors[change]
            write_safetensors(path, tensors)
        told = self.lineage(merged, tunes)
        reasons = {(gap["tensor"], gap["candidate"]): gap["reason"] for gap in told["not_looked_at"]}
        self.assertIn("NaN", reasons[nan, None])
        self.assertIn("tune-1", reasons[nan, None])
        self.assertIn("first 512 rows", reasons[rows, None])
        self.assertIn("no such tensor", reasons[missing, str(tunes[2])])
        for got, weight in zip(told["candidates"], [0.5, 0.3, 0.2]):
            self.assertLess(abs(got["coefficient"] - weight), 4.5 * got["error"] + 0.02, got)
        self.assertNotIn(nan, [tensor["name"] for tensor in told["tensors"]])

    def test_a_quantised_model(self):
        tunes = [self.tune(seed, scale="0.2") for seed in (1, 2)]
        merged = self.merge("task_arithmetic", tunes, [0.6, 0.3])
        gguf = self.dir / "merged.gguf"
        self.run_ok("convert", merged, "-o", gguf, "--dtype", "q8_0", "--quiet")
        told = self.lineage(gguf, tunes)
        for got, weight in zip(told["candidates"], [0.6, 0.3]):
            self.assertLess(abs(got["coefficient"] - weight), 5 * got["error"] + 5e-3, got)

    def test_bad_requests(self):
        tune = self.tune(1)
        self.run_fails(2, ["--base"], "lineage", tune, "--candidates", tune)
        self.run_fails(2, ["--candidates"], "lineage", tune, "--base", self.base)
        self.run_fails(3, ["nowhere"], "lineage", tune, "--base", self.base, "--candidates", self.dir / "nowhere")
        self.run_fails(4, ["memory"], "lineage", tune, "--base", self.base, "--candidates", tune, "--max-memory", "1MiB")
        self.run_fails(2, ["38"], "lineage", tune, "--base", self.base, "--candidates", *[tune] * 39)
        single = self.dir / "single.safetensors"
        write_safetensors(single, {"x": ("F32", [4], cli_models.f32([1, 2, 3, 4]))})
        self.run_fails(2, ["no tensor"], "lineage", single, "--base", self.base, "--candidates", tune)
        nothing = self.dir / "nothing.safetensors"
        write_safetensors(nothing, {"x": ("F32", [4], struct.pack("<4I", 0x7FC00000, 0, 0, 0))})
        self.run_fails(3, ["NaN", "nothing could be compared"], "lineage", nothing, "--base", single, "--candidates", single)
        self.assertIn("plan", self.run_ok("lineage", tune, "--base", self.base, "--candidates", tune, "--dry-run", "--json").json())


if __name__ == "__main__":
    cli_models.main()
