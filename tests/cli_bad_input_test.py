"""Bad input of every kind: the exit status, and an error that says what is wrong and what to do. Nothing is ever left behind."""

import json
import os
import signal
import struct
import subprocess
import time

import cli_models
from cli_models import Case, recipe_text, sluice, write_model, write_safetensors, write_sparse_model

READERS = ("inspect", "digest")  # commands that take a REF and write nothing


class BadModels(Case):
    def test_a_path_that_does_not_exist_is_3(self):
        for command in READERS:
            self.run_fails(3, ["nowhere"], command, self.dir / "nowhere")
        self.run_fails(3, ["nowhere"], "verify", self.dir / "nowhere", self.dir / "nowhere")
        self.run_fails(3, ["nowhere.yml"], "merge", self.dir / "nowhere.yml", "-o", self.dir / "out")

    def test_a_hub_name_that_is_not_here_says_how_to_fetch_it(self):
        self.run_fails(3, ["nobody/nothing-of-the-kind"], "digest", "nobody/nothing-of-the-kind")

    def test_a_wrong_folder(self):
        (self.dir / "photos").mkdir()
        (self.dir / "photos" / "cat.jpg").write_bytes(b"\xff\xd8\xff")
        for command in READERS:
            self.run_fails(3, ["photos", "safetensors"], command, self.dir / "photos")

    def test_an_empty_folder(self):
        (self.dir / "empty").mkdir()
        for command in READERS:
            self.run_fails(3, ["empty"], command, self.dir / "empty")

    def test_a_file_that_is_no_model(self):
        (self.dir / "notes.safetensors").write_text("hello, this is text and no model at all")
        self.run_fails(3, ["notes.safetensors"], "digest", self.dir / "notes.safetensors")
        (self.dir / "notes.txt").write_text("hello")
        result = sluice("digest", self.dir / "notes.txt")
        self.assertIn(result.status, (2, 3), result)

    def test_an_lfs_pointer(self):
        model = write_model(self.dir / "model")
        (model / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 68777834496\n")
        for command in READERS:
            self.run_fails(3, ["model.safetensors", "git lfs"], command, model)

    def test_a_truncated_shard(self):
        model = write_model(self.dir / "model", shards=2)
        shard = model / "model-00002-of-00002.safetensors"
        data = shard.read_bytes()
        shard.write_bytes(data[: len(data) - 1000])
        for command in READERS:
            self.run_fails(3, ["model-00002-of-00002.safetensors", "truncated"], command, model)

    def test_a_shard_that_the_index_names_and_the_folder_lacks(self):
        model = write_model(self.dir / "model", shards=3)
        (model / "model-00002-of-00003.safetensors").unlink()
        for command in READERS:
            self.run_fails(3, ["model-00002-of-00003.safetensors"], command, model)

    def test_a_tensor_that_is_not_where_the_index_says(self):
        model = write_model(self.dir / "model", shards=2)
        index = model / "model.safetensors.index.json"
        text = json.loads(index.read_text())
        text["weight_map"]["lm_head.weight"] = "model-00001-of-00002.safetensors"
        index.write_text(json.dumps(text))
        self.run_fails(3, ["lm_head.weight", "model-00001-of-00002.safetensors"], "digest", model)

    def test_an_index_that_leaves_the_folder(self):
        model = write_model(self.dir / "model", shards=2)
        index = model / "model.safetensors.index.json"
        index.write_text(index.read_text().replace("model-00001", "../model-00001"))
        self.run_fails(3, ["index"], "digest", model)

    def test_a_config_that_is_no_json(self):
        model = write_model(self.dir / "model")
        (model / "config.json").write_text('{"hidden_size": 32,}')
        self.run_fails(3, ["config.json"], "inspect", model)

    def test_a_gguf_that_ends_early(self):
        (self.dir / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1))
        self.run_fails(3, ["x.gguf"], "inspect", self.dir / "x.gguf")

    def test_a_file_that_shrinks_after_it_was_opened_is_told(self):
        # Its header promises more than the file has, which opening already sees.
        model = write_model(self.dir / "model")
        with open(model / "model.safetensors", "r+b") as file:
            file.truncate(200)
        self.run_fails(3, ["model.safetensors"], "digest", model)


class BadRecipes(Case):
    def setUp(self):
        super().setUp()
        self.base = write_model(self.dir / "base", seed=1)
        self.tunes = [write_model(self.dir / f"tune{i}", seed=1, update_seed=i + 2) for i in range(2)]

    def recipe(self, text, name="recipe.yml"):
        path = self.dir / name
        path.write_text(text)
        return path

    def fails(self, words, text, status=2):
        before = sorted(os.listdir(self.dir))
        path = self.recipe(text)
        result = self.run_fails(status, words, "merge", path, "-o", self.dir / "out")
        self.run_fails(status, words, "merge", path, "--check")
        self.run_fails(status, words, "digest", path)  # a recipe is a checkpoint: the same errors
        path.unlink()
        self.assertEqual(sorted(os.listdir(self.dir)), before, "something was left behind")
        return result

    def test_a_folder_or_a_model_as_the_recipe_is_2(self):
        self.run_fails(2, ["base"], "merge", self.base, "-o", self.dir / "out")
        self.run_fails(2, ["model.safetensors"], "merge", self.base / "model.safetensors", "-o", self.dir / "out")

    def test_six_errors_are_all_told_with_their_places(self):
        result = self.fails(
            ["6 errors", "no_such_model", "densty", "density", "surprise", "dtype", "weigth"],
            "merge_method: ties\n"
            "base_model: base\n"
            "surprise: 1\n"
            "models:\n"
            "  - model: no_such_model\n"
            "    parameters: {weight: 0.5, density: 0.5}\n"
            "  - model: tune0\n"
            "    parameters: {weight: 0.5, densty: 0.5}\n"
            "  - model: tune1\n"
            "    parameters: {weight: 0.5, density: 1.5, weigth: 1}\n"
            "dtype: float17\n")
        for line in (3, 5, 8, 10, 11):
            self.assertIn(f"recipe.yml:{line}:", result.err)

    def test_density_0_for_ties(self):
        models = [(tune, {"weight": 0.5, "density": 0}) for tune in ("tune0", "tune1")]
        self.fails(["density"], recipe_text("ties", "base", models))

    def test_density_outside_0_to_1_for_any_method(self):
        for method in ("ties", "dare_linear", "dare_ties", "task_arithmetic"):
            for density in (1.5, -0.1):
                with self.subTest(method=method, density=density):
                    models = [("tune0", {"weight": 0.5, "density": density}), ("tune1", {"weight": 0.5, "density": 0.5})]
                    self.fails(["density", str(density)], recipe_text(method, "base", models))

    def test_models_of_differing_shapes(self):
        write_model(self.dir / "wide", seed=3, hidden=64)
        models = [("tune0", {"weight": 0.5}), ("wide", {"weight": 0.5})]
        self.fails(["[40, 32]", "[40, 64]"], recipe_text("linear", None, models))

    def test_a_model_that_does_not_exist_is_2_inside_a_recipe(self):
        self.fails(["gone"], recipe_text("linear", None, [("tune0", {"weight": 1}), ("gone", {"weight": 1})]))

    def test_what_is_no_yaml(self):
        self.fails(["recipe.yml:"], "merge_method: [ties\n")
        self.fails(["recipe.yml"], "")

    def test_arithmetic(self):
        text = recipe_text("linear", None, [("tune0", {"weight": 1}), ("tune1", {"weight": 1})])
        path = self.recipe(text)
        self.run_fails(2, ["seed 5000000000", "mergekit", "4294967295"], "merge", path, "-o", self.dir / "out", "--arithmetic", "mergekit",
                       "--seed", "5000000000")
        self.run_fails(2, ["sloppy"], "merge", path, "-o", self.dir / "out", "--arithmetic", "sloppy")


class BadOutput(Case):
    def setUp(self):
        super().setUp()
        self.model = write_model(self.dir / "model")
        write_model(self.dir / "tune", update_seed=2)
        self.recipe = self.dir / "recipe.yml"
        self.recipe.write_text(recipe_text("linear", None, [("model", {"weight": 0.5}), ("tune", {"weight": 0.5})]))

    def writers(self, output, *more):
        yield ("merge", self.recipe, "-o", output, *more)
        yield ("convert", self.model, "-o", output, *more)

    def test_an_output_that_is_not_empty_is_refused_without_force(self):
        output = self.dir / "taken"
        output.mkdir()
        (output / "precious.txt").write_text("do not lose me")
        for arguments in self.writers(output):
            self.run_fails(2, ["taken", "--force"], *arguments)
            self.assertEqual((output / "precious.txt").read_text(), "do not lose me")
        for arguments in self.writers(output, "--force"):
            self.run_ok(*arguments)
            self.assertFalse((output / "precious.txt").exists())
            self.assertTrue((output / "model.safetensors").exists())

    def test_an_empty_folder_is_taken_and_parents_are_made(self):
        (self.dir / "void").mkdir()
        self.run_ok("convert", self.model, "-o", self.dir / "void")
        self.run_ok("convert", self.model, "-o", self.dir / "deep" / "down" / "here")

    def test_no_output(self):
        self.run_fails(2, ["-o"], "merge", self.recipe)
        self.run_fails(2, ["-o"], "convert", self.model)

    def test_a_budget_of_1_mb_is_4_with_the_smallest_that_would_do(self):
        for arguments in self.writers(self.dir / "out", "--max-memory", "1MB"):
            result = self.run_fails(4, ["--max-memory"], *arguments)
            self.assertRegex(result.err, r"\d+ ?MiB")
            self.assertFalse((self.dir / "out").exists())
        result = self.run_fails(4, ["--max-memory"], "digest", self.model, "--max-memory", "1MB")
        self.run_fails(4, ["--max-memory"], "verify", self.model, self.dir / "tune", "--max-memory", "1MB")
        # The number that the message gives is enough.
        least = result.err.split("--max-memory ")[-1].split(" or")[0].strip()
        self.run_ok("digest", self.model, "--max-memory", least)

    def test_no_space_is_told_before_anything_is_read(self):
        free = os.statvfs(self.dir)
        gigabytes = 8000
        if free.f_bavail * free.f_frsize > gigabytes * 1_000_000_000:
            self.skipTest("more than 8 TB free")
        try:
            write_sparse_model(self.dir / "huge", gigabytes)
        except OSError as error:
            self.skipTest(f"no sparse file of 8 TB here: {error}")
        started = time.monotonic()
        self.run_fails(6, ["needs", "free"], "convert", self.dir / "huge", "-o", self.dir / "out")
        self.assertLess(time.monotonic() - started, 60)
        self.assertFalse((self.dir / "out").exists())

    def test_a_target_that_may_not_be_written(self):
        for arguments in self.writers("/proc/sluice-out"):
            self.run_fails(6, ["/proc"], *arguments)
        if os.geteuid() != 0:
            locked = self.dir / "locked"
            locked.mkdir(mode=0o555)
            for arguments in self.writers(locked / "out"):
                self.run_fails(6, ["locked"], *arguments)

    def test_a_file_where_a_folder_should_be(self):
        (self.dir / "file").write_text("x")
        for arguments in self.writers(self.dir / "file"):
            self.run_fails(2, ["file"], *arguments)
        for arguments in self.writers(self.dir / "file" / "below"):
            result = sluice(*arguments)
            self.assertIn(result.status, (2, 6), result)

    def test_bad_options_of_the_output(self):
        self.run_fails(2, ["--out-shard-size"], "convert", self.model, "-o", self.dir / "x", "--out-shard-size", "big")
        self.run_fails(2, ["--dtype", "int3"], "convert", self.model, "-o", self.dir / "x", "--dtype", "int3")
        self.run_fails(2, ["--set"], "convert", self.model, "-o", self.dir / "x", "--set", "nonsense")
        self.run_fails(2, ["--nan"], "merge", self.recipe, "-o", self.dir / "x", "--nan", "maybe")
        self.run_fails(2, ["twice"], "merge", self.recipe, self.dir / "x", "-o", self.dir / "y")
        self.assertFalse((self.dir / "x").exists())

    def interrupt(self, signal_number, *arguments):
        """Sends the signal once bytes are being written; returns the finished process."""
        output = self.dir / "out"
        process = subprocess.Popen([cli_models.SLUICE, *map(str, arguments), "-o", str(output)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if any("partial" in name for name in os.listdir(self.dir)):
                    break
                time.sleep(0.005)
            self.assertIsNone(process.poll(), "it ended before it could be interrupted")
            time.sleep(0.05)
            process.send_signal(signal_number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return cli_models.Result(subprocess.CompletedProcess([], process.returncode, out, err))

    def test_an_interrupted_run_is_130_and_leaves_nothing(self):
        model = write_sparse_model(self.dir / "large", 6)
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            result = self.interrupt(signal_number, "convert", model, "--dtype", "bf16", "--threads", "1")
            self.assertEqual(result.status, 130, result)
            self.assertIn("interrupted", result.err)
            self.assertIn("nothing was left under the final name", result.err)
            self.assertIn("not supported yet", result.err)  # resuming
            self.assertEqual([name for name in os.listdir(self.dir) if "out" in name], [])

    def test_an_interrupted_merge_is_130_and_leaves_nothing(self):
        write_sparse_model(self.dir / "large1", 4)
        write_sparse_model(self.dir / "large2", 4)
        recipe = self.dir / "large.yml"
        recipe.write_text(recipe_text("linear", None, [("large1", {"weight": 0.5}), ("large2", {"weight": 0.5})]))
        result = self.interrupt(signal.SIGINT, "merge", recipe, "--threads", "1", "--json")
        self.assertEqual(result.status, 130, result)
        self.assertEqual(json.loads(result.out)["code"], "cancelled")
        self.assertNotIn("--resume", result.err)  # its one tensor was not finished: there is nothing to keep
        self.assertEqual([name for name in os.listdir(self.dir) if "out" in name], [])


class BadComparisons(Case):
    def test_a_folder_without_a_statement_is_2(self):
        model = write_model(self.dir / "model")
        self.run_fails(2, ["sluice_merge.json"], "verify", model)
        self.run_fails(2, ["model.safetensors"], "verify", model / "model.safetensors")

    def test_a_broken_statement_is_3(self):
        model = write_model(self.dir / "model")
        (model / "sluice_merge.json").write_text('{"schema": "something/else"}')
        self.run_fails(3, ["sluice_merge.json"], "verify", model)

    def test_bad_manifests(self):
        model = write_model(self.dir / "model")
        self.run_fails(3, ["gone.json"], "digest", model, "--check", self.dir / "gone.json")
        (self.dir / "other.json").write_text('{"schema": "sluice/inspect/v1"}')
        self.run_fails(3, ["other.json", "manifest"], "digest", model, "--check", self.dir / "other.json")

    def test_tolerances(self):
        self.run_fails(2, ["atol"], "verify", "a", "b", "--atol=-1")
        self.run_fails(2, ["--first-difference"], "verify", "a", "b", "--atol", "1", "--first-difference")

    def test_three_models_are_one_too_many(self):
        self.run_fails(2, ["too many"], "verify", "a", "b", "c")


class OddTensors(Case):
    def test_a_model_without_config_is_a_model(self):
        write_safetensors(self.dir / "x.safetensors", {"w": ("F32", [2], cli_models.f32([1, 2]))})
        result = self.run_ok("inspect", self.dir / "x.safetensors", "--json").json()
        self.assertIsNone(result["architecture"])
        self.assertEqual(result["parameters"], 2)
        self.run_ok("digest", self.dir / "x.safetensors")
        self.run_ok("verify", self.dir / "x.safetensors", self.dir / "x.safetensors")

    def test_a_file_without_tensors(self):
        write_safetensors(self.dir / "none.safetensors", {})
        self.assertEqual(self.run_ok("inspect", self.dir / "none.safetensors", "--json").json()["parameters"], 0)
        self.assertEqual(self.run_ok("digest", self.dir / "none.safetensors", "--json").json()["tensors"], [])

    def test_a_budget_for_the_whole_process_holds_for_inspect_too(self):
        model = write_model(self.dir / "model")
        self.run_fails(4, ["--max-memory"], "inspect", model, "--max-memory", "1MB")


if __name__ == "__main__":
    cli_models.main()
