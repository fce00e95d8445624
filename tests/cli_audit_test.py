"""`sluice verify MERGED --sample P --facts Q`: what a tampered recipe, a swapped parent and an edited tensor look like to it, and what a merge leaves
beside its weights."""

import json
import os
import shutil

import cli_models
from cli_models import Case, read_safetensors, write_model, write_safetensors

RECIPE = """merge_method: {method}
base_model: base
models:
  - {{model: one, parameters: {{weight: 0.5, density: 0.5}}}}
  - {{model: two, parameters: {{weight: 0.3, density: 0.6}}}}
parameters: {{rescale: true}}
dtype: bfloat16
sluice: {{seed: 7}}
"""
ALL = ("--sample", "1", "--facts", "1")


class Audit(Case):
    def setUp(self):
        super().setUp()
        for seed, name in enumerate(("base", "one", "two", "other"), 1):
            write_model(self.dir / name, seed=seed)

    def merged(self, method="dare_ties"):
        (self.dir / "r.yml").write_text(RECIPE.format(method=method))
        out = self.dir / "merged"
        self.run_ok("merge", self.dir / "r.yml", "-o", out, "--force")
        return out

    def statement(self, change):
        """Changes the statement as `change` does with its JSON."""
        file = self.dir / "merged" / "sluice_merge.json"
        statement = json.loads(file.read_text())
        change(statement)
        file.write_text(json.dumps(statement))

    def found(self, *flags, status=1):
        return self.run_ok("verify", self.dir / "merged", *(flags or ALL), "--json", status=status).json()

    def classes(self, result):
        return {tensor["class"] for tensor in result["tensors"]}

    def test_a_merge_as_it_was_made(self):
        for method in ("dare_ties", "ties", "task_arithmetic", "della"):
            self.merged(method)
            result = self.found(status=0)
            self.assertEqual(result["verdict"], "SAME_SAMPLE", method)
            self.assertEqual(result["summary"]["sample"]["chunks"], result["summary"]["sample"]["all_chunks"])
            self.assertEqual(result["tensors"], [])
            facts = result["summary"]["facts"]
            self.assertEqual(facts["tensors"], facts["all_tensors"])
            self.assertEqual(facts["tensors"] > 0, method != "task_arithmetic")
        text = self.run_ok("verify", self.dir / "merged", *ALL).out
        self.assertIn("makes every byte of the folder; all recorded facts are those of the parents", text)

    def test_parents_that_were_copied_since(self):
        """Files of other inodes: what is found of them has other keys, in another order, and stands in the statement in the method's."""
        for method in ("ties", "della"):
            self.merged(method)
            before = (self.dir / "merged" / "sluice_merge.json").read_bytes()
            for name in ("one", "base", "two"):  # not in the order in which they were made
                shutil.copytree(self.dir / name, self.dir / "copy")
                shutil.rmtree(self.dir / name)
                (self.dir / "copy").rename(self.dir / name)
            self.assertEqual(self.found(status=0)["verdict"], "SAME_SAMPLE", method)
            self.merged(method)
            self.assertEqual((self.dir / "merged" / "sluice_merge.json").read_bytes(), before, method)

    def test_a_share_of_it_by_a_nonce(self):
        self.merged()
        first, again, other = (self.found("--sample", "0.4", "--facts", "0.4", "--nonce", n, status=0) for n in ("1", "1", "2"))
        drawn = lambda result: (result["summary"]["sample"], result["summary"]["facts"], result["bytes_read"])
        self.assertEqual(drawn(first), drawn(again))
        self.assertNotEqual(drawn(first), drawn(other))
        self.assertLess(first["summary"]["sample"]["chunks"], first["summary"]["sample"]["all_chunks"])
        self.assertIn("with a probability of 99%", first["proves"])
        self.assertIn("--facts", self.found("--sample", "0.4", status=0)["does_not_prove"])
        self.assertIn("--sample", self.found("--facts", "0.4", status=0)["does_not_prove"])

    def test_facts_that_are_recorded_are_not_read_again(self):
        self.merged()
        with_facts, without = self.found(status=0), self.found("--sample", "1", status=0)
        self.assertGreater(with_facts["bytes_read"], without["bytes_read"])

    def test_a_recipe_that_was_tampered_with(self):
        merged = self.merged()
        text = (merged / "mergekit_config.yml").read_text().replace("0.3", "0.4")
        (merged / "mergekit_config.yml").write_text(text)
        result = self.found()
        self.assertIn("is not the recipe that the statement holds", result["summary"]["contradictions"][0])
        self.statement(lambda statement: statement["recipe"].update(text=text))  # in both places
        result = self.found()
        self.assertEqual(result["summary"]["contradictions"], [])
        self.assertEqual(self.classes(result), {"not_recomputed"})
        self.assertEqual(result["verdict"], "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")

    def test_another_seed(self):
        self.merged()
        self.statement(lambda statement: statement.update(seed=8))
        self.assertIn("not_recomputed", self.classes(self.found()))

    def test_a_parent_that_was_swapped(self):
        self.merged()
        shutil.rmtree(self.dir / "one")
        (self.dir / "other").rename(self.dir / "one")
        result = self.found(status=5)
        self.assertEqual(self.classes(result), {"not_recomputed", "other_facts"})
        # What the parents make is no argument against the merge once they are others.
        self.assertEqual(result["verdict"], "UNDECIDED")
        config, changed = sorted(result["summary"]["changed_parents"], key=lambda one: one["file"])
        self.assertEqual((config["parent"], config["file"]), ("one", str(self.dir / "one" / "config.json")))
        self.assertEqual((changed["parent"], changed["file"]), ("one", str(self.dir / "one" / "model.safetensors")))
        self.assertIn("modified", changed["how"])
        self.assertIn("the parent 'one' is not as it was: ", self.run_ok("verify", self.dir / "merged", *ALL, status=5).out)

    def changed_parents(self, result):
        """But for config.json, which write_model writes each time."""
        names = [(one["parent"], one["file"].split("/")[-1]) for one in result["summary"]["changed_parents"]]
        return [one for one in names if one[1] != "config.json"]

    def test_parents_that_changed_since(self):
        merged = self.merged()
        file = self.dir / "two" / "model.safetensors"
        whole, stamp = file.read_bytes(), file.stat()
        two = [("two", "model.safetensors")]
        # Told also where what was drawn is as it was: written again with the same bytes.
        file.write_bytes(whole)
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
        result = self.found(status=0)
        self.assertEqual((result["verdict"], self.changed_parents(result)), ("SAME_SAMPLE", two))
        # Of another size, though the recipe makes the same tensors of it: its header alone is longer.
        write_safetensors(file, read_safetensors(file), {"more": "x" * 80})
        result = self.found(status=0)
        self.assertEqual((result["verdict"], self.changed_parents(result)), ("SAME_SAMPLE", two))
        self.assertRegex(result["summary"]["changed_parents"][0]["how"], f"^[0-9]+ bytes, {len(whole)} at the merge$")
        # In other shards.
        write_model(self.dir / "two", seed=3, shards=2)
        file.unlink()
        result = self.found(status=0)
        self.assertEqual({name for _, name in self.changed_parents(result)},
                         {"model.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"})
        # It makes other tensors: not what the folder is held against.
        for shard in (1, 2):
            (self.dir / "two" / f"model-0000{shard}-of-00002.safetensors").unlink()
        (self.dir / "two" / "model.safetensors.index.json").unlink()
        write_model(self.dir / "two", seed=3, dtype="F32")
        result = self.found(status=5)
        self.assertEqual((result["verdict"], self.changed_parents(result)), ("UNDECIDED", two))
        self.assertEqual(result["summary"]["contradictions"], [])
        # The folder is not excused by them.
        tensors = read_safetensors(merged / "model.safetensors")
        dtype, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
        write_safetensors(merged / "model.safetensors", tensors)
        result = self.found(status=1)
        self.assertEqual(result["verdict"], "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertIn("not_written", self.classes(result))

    def test_parents_that_no_longer_fit(self):
        self.merged()
        write_model(self.dir / "two", seed=3, hidden=64)
        self.run_fails(2, ["not as they were at the merge", str(self.dir / "two" / "model.safetensors")], "verify", self.dir / "merged", *ALL)

    def test_a_swap_that_left_no_trace(self):
        # The same size and time: then the statement is what it contradicts.
        self.merged()
        file = self.dir / "one" / "model.safetensors"
        stamp = file.stat()
        file.write_bytes((self.dir / "other" / "model.safetensors").read_bytes())
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        result = self.found()
        self.assertEqual((result["verdict"], result["summary"]["changed_parents"]), ("SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", []))

    def test_statements_of_before(self):
        self.merged()
        self.statement(lambda statement: statement.pop("files"))
        self.assertEqual(self.found(status=0)["summary"]["changed_parents"], [])
        self.statement(lambda statement: statement["parents"][1].update(bytes=1))
        self.assertEqual(self.changed_parents(self.found(status=0)), [("one", "one")])

    def test_a_tensor_that_was_edited(self):
        merged = self.merged()
        tensors = read_safetensors(merged / "model.safetensors")
        dtype, shape, data = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
        write_safetensors(merged / "model.safetensors", tensors)
        result = self.found()
        self.assertEqual([(t["name"], t["class"]) for t in result["tensors"]], [("model.norm.weight", "not_written")])

    def test_facts_that_were_made_up(self):
        self.merged()

        def change(statement):
            facts = next(t for t in statement["tensors"] if t["name"] == "model.norm.weight")["facts"]
            facts[0][1] = "3ff0000000000000"

        self.statement(change)
        self.assertEqual(self.classes(self.found()), {"not_recomputed", "other_facts"})
        self.statement(lambda statement: statement["tensors"][0].update(facts=[]))
        self.run_fails(3, ["sluice_merge.json", "has 0 facts, its method looks at 2"], "verify", self.dir / "merged", *ALL)

    def test_facts_of_many_numbers_are_told_by_their_hash(self):
        (self.dir / "r.yml").write_text("merge_method: nuslerp\nmodels:\n  - {model: one, parameters: {weight: 0.5}}\n"
                                        "  - {model: two, parameters: {weight: 0.3}}\nparameters: {nuslerp_flatten: false}\n")
        self.run_ok("merge", self.dir / "r.yml", "-o", self.dir / "merged")
        name = "model.layers.0.self_attn.q_proj.weight"  # 32 rows and 2 factors: 64 numbers are told, 96 (of 48 rows) are not
        told = {tensor["name"]: tensor["facts"][0]
                for tensor in json.loads((self.dir / "merged" / "sluice_merge.json").read_text())["tensors"]}
        self.assertIsInstance(told[name], list)
        gate = "model.layers.0.mlp.gate_proj.weight"
        self.assertRegex(told[gate], "^[0-9a-f]{64}$")
        self.assertEqual(self.found(status=0)["verdict"], "SAME_SAMPLE")

        def forge(statement):
            next(tensor for tensor in statement["tensors"] if tensor["name"] == gate)["facts"] = ["0" * 64]

        self.statement(forge)
        self.assertEqual([tensor["name"] for tensor in self.found()["tensors"]], [gate])

    def test_roots_that_do_not_fit(self):
        merged = self.merged()
        self.statement(lambda statement: statement["tensors"][0].update(root="0" * 64))
        self.assertIn("do not give its weights_root", self.found()["summary"]["contradictions"][0])
        self.merged()
        config = json.loads((merged / "config.json").read_text())
        (merged / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
        self.assertIn("config or tokenizer", self.found()["summary"]["contradictions"][0])

    def test_tensors_that_the_statement_makes_up(self):
        self.merged()
        self.statement(lambda statement: statement["tensors"].append({**statement["tensors"][0], "name": "model.more"}))
        self.assertIn("the folder has 21 tensors, the statement tells of 22", self.found()["summary"]["contradictions"])

    def test_bad_requests(self):
        merged = self.merged()
        for share in ("0", "1.5", "x", "-1"):
            self.run_fails(2, ["above 0, up to 1"], "verify", merged, "--sample", share)
        self.run_fails(2, ["one merged folder"], "verify", merged, merged, "--sample", "0.1")
        self.run_fails(2, ["has no sluice_merge.json"], "verify", self.dir / "base", "--facts", "0.1")
        self.run_fails(2, ["--nonce goes with"], "verify", merged, "--nonce", "1")
        shutil.rmtree(self.dir / "two")
        self.run_fails(2, ["'two' does not exist"], "verify", merged, "--sample", "0.1")

    def test_the_card_and_the_recipe_lie_beside_the_weights(self):
        merged = self.merged()
        self.assertEqual((merged / "mergekit_config.yml").read_text(), (self.dir / "r.yml").read_text())
        card = (merged / "README.md").read_text()
        self.assertTrue(card.startswith('---\nbase_model:\n- "base"\n- "one"\n- "two"\nbase_model_relation: merge\n'), card)
        self.assertIn((self.dir / "r.yml").read_text(), card)
        self.assertIn(json.loads((merged / "sluice_merge.json").read_text())["root"], card)


class Explain(Case):
    def test_every_method_has_its_page(self):
        methods = self.run_ok("merge", "--list-methods", "--json").json()["methods"]
        for method in methods:
            page = self.run_ok("merge", "--explain", method["name"]).out
            self.assertTrue(page.startswith(f"# {method['name']}\n"), page)
            for parameter in method["parameters"]:
                self.assertIn(parameter["name"], page)
        self.run_fails(2, ["no such method: did you mean 'slerp'?"], "merge", "--explain", "slurp")


if __name__ == "__main__":
    cli_models.main()
