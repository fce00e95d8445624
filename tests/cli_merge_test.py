"""`sluice merge`: what is told of a recipe beside its errors, and what an output may not do to its parents."""

import json

import cli_models
from cli_models import Case, recipe_text, write_model

DOCUMENTS = """name: step
merge_method: dare_linear
base_model: base
{step}models:
  - {{model: one, parameters: {{weight: 1, density: 0.5}}}}
---
{end}merge_method: linear
models:
  - {{model: step, parameters: {{weight: 1}}}}
  - {{model: two, parameters: {{weight: 1}}}}
"""


class Merge(Case):
    def setUp(self):
        super().setUp()
        for seed, name in enumerate(("base", "one", "two"), 1):
            write_model(self.dir / name, seed=1, update_seed=seed - 1)
        self.recipe = self.dir / "r.yml"

    def test_a_parameter_that_a_method_does_not_use_is_told(self):
        models = [("one", {"weight": 0.5, "density": 0.5}), ("two", {"weight": 0.5})]
        self.recipe.write_text(recipe_text("task_arithmetic", "base", models))
        for arguments in (("--check",), ("-o", self.dir / "out")):
            result = self.run_ok("merge", self.recipe, *arguments)
            self.assertIn("note: " + str(self.recipe) + ":7:7: task_arithmetic does not use density", result.err)
        # Also in a document that another one uses.
        step = recipe_text("task_arithmetic", "base", models)
        self.recipe.write_text("name: step\n" + step + "---\n" + recipe_text("linear", None, [("step", {"weight": 1})]))
        self.assertIn("task_arithmetic does not use density", self.run_ok("merge", self.recipe, "--check").err)

    def test_a_flag_without_effect_says_what_is_so(self):
        self.recipe.write_text(recipe_text("linear", None, [("one", {"weight": 1})]))
        result = self.run_ok("merge", self.recipe, "-o", self.dir / "out", "--no-write-model-card")
        self.assertIn("--no-write-model-card changes nothing here: README.md is written", result.err)
        self.assertTrue((self.dir / "out" / "README.md").exists())

    def test_a_parent_is_not_replaced_by_its_merge(self):
        self.recipe.write_text(recipe_text("linear", None, [("one", {"weight": 1}), ("two", {"weight": 1})]))
        before = (self.dir / "one" / "model.safetensors").read_bytes()
        (self.dir / "link").symlink_to(self.dir / "one")
        for output in ("one", "link", "."):
            self.run_fails(2, ["one/model.safetensors", "--force would remove"], "merge", self.recipe, "-o", self.dir / output,
                           "--force")
        self.assertEqual((self.dir / "one" / "model.safetensors").read_bytes(), before)
        (self.dir / "old").mkdir()
        (self.dir / "old" / "x").write_text("x")
        self.run_ok("merge", self.recipe, "-o", self.dir / "old", "--force")

    def test_documents_are_made_again_from_the_statement(self):
        for number, (step, end, flags) in enumerate([
                ("", "", ()), ("sluice: {seed: 5}\n", "", ()), ("", "sluice: {seed: 7}\n", ()),
                ("sluice: {seed: 5}\n", "sluice: {seed: 7}\n", ("--seed", "9")),
                ("", "sluice: {seed: 7, arithmetic: mergekit}\n", ()),
                ("sluice: {arithmetic: exact}\n", "", ("--arithmetic", "mergekit"))]):
            with self.subTest(step=step, end=end, flags=flags):
                self.recipe.write_text(DOCUMENTS.format(step=step, end=end))
                out = self.dir / f"out{number}"
                self.run_ok("merge", self.recipe, "-o", out, *flags)
                self.assertEqual(self.run_ok("verify", out, self.recipe, "--json").json()["verdict"], "IDENTICAL")
                self.run_ok("verify", out, "--sample", "1", "--facts", "1")

    def test_of_documents_that_all_have_a_name_the_last_is_written(self):
        self.recipe.write_text(DOCUMENTS.format(step="", end="name: end\n"))
        out = self.dir / "out"
        self.run_ok("merge", self.recipe, "-o", out)
        self.assertEqual(json.loads((out / "sluice_merge.json").read_text())["merge_method"], "linear")
        self.run_ok("verify", out, str(self.recipe) + "#end")

    def test_a_layer_that_no_model_has_is_told(self):
        for end, words in ((3, "there is no layer 2"), (10**15, "no model has more than")):
            self.recipe.write_text("merge_method: passthrough\nslices:\n"
                                   f"  - sources: [{{model: one, layer_range: [0, {end}]}}]\n"
                                   "  - sources: [{model: two, layer_range: [0, 2]}]\n")
            self.run_fails(2, ["r.yml:3:", words], "merge", self.recipe, "--check")


if __name__ == "__main__":
    cli_models.main()
