"""verify --evidence and verify --replay: what is kept, that it reproduces, and what is said where the bundle or the models were changed."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import budgets
import cli_models
import json_schemas
from cli_fingerprint_test import AIM, NONCE, drawn_of, large_tensors, with_a_bit_changed, write_large
from cli_models import Case, read_safetensors, recipe_text, write_gguf, write_model, write_safetensors, write_sparse_model

DATA = pathlib.Path(__file__).resolve().parent / "data" / "model_signing"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def change_a_weight(model, name="model.norm.weight", element=-1):
    """Flips a bit of one number; the file keeps its length."""
    for file in sorted(model.glob("*.safetensors")):
        tensors = read_safetensors(file)
        if name not in tensors:
            continue
        dtype, shape, data = tensors[name]
        at = len(data) + 2 * element if element < 0 else 2 * element
        tensors[name] = (dtype, shape, data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
        write_safetensors(file, tensors, {"format": "pt"})
        return
    raise AssertionError(name)


class Evidence(Case):
    result_schema = json_schemas.load("verify")
    evidence_schema = json_schemas.load("evidence")

    def setUp(self):
        super().setUp()
        self.proof = self.dir / "proof"

    def keep(self, *arguments, status=0):
        """Runs verify with --evidence; returns evidence.json, after looking at all of the folder."""
        told = self.run_ok("verify", *arguments, "--evidence", self.proof, "--json", status=status, cwd=self.dir).json()
        evidence = json.loads((self.proof / "evidence.json").read_text())
        self.assertEqual(json_schemas.complaints(self.evidence_schema, evidence), [])
        self.assertEqual(json.loads((self.proof / "result.json").read_text()), told)
        self.assertEqual(json_schemas.complaints(self.result_schema, told), [])
        names = {path.name for path in self.proof.iterdir()}
        self.assertEqual(names, {"evidence.json", "SHA256SUMS", *(file["name"] for file in evidence["files"])})
        done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=self.proof, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(len(done.stdout.splitlines()), len(names) - 1)
        self.assertEqual([name for name in os.listdir(self.dir) if "sluice-partial" in name], [])
        return evidence

    def replay(self, *refs, status=0):
        result = self.run_ok("verify", "--replay", self.proof, *refs, "--json", status=status, cwd=self.dir).json()
        self.assertEqual(json_schemas.complaints(self.result_schema, result), [])
        self.assertEqual(result["replay"]["reproduced"], status == 0)
        text = self.run_ok("verify", "--replay", self.proof, *refs, status=status, cwd=self.dir).out
        self.assertTrue(text.startswith("REPRODUCED  (" if status == 0 else "NOT REPRODUCED  ("), text)
        self.assertIn(result["replay"]["finding"], text)
        return result

    def assert_clean(self, *refs):
        replay = self.replay(*refs)["replay"]
        self.assertEqual(replay["differences"], [])
        self.assertGreater(replay["fields"]["agree"], 10)
        self.assertTrue(all(side["same"] for side in replay["sides"]))
        return replay

    def assert_tampering_is_found(self):
        """One byte of each file in turn, each file away, one more."""
        for path in sorted(self.proof.iterdir()):
            whole = path.read_bytes()
            for at in sorted({0, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
                error = self.run_fails(3, ["the evidence is not as it was written", path.name + " was changed"], "verify", "--replay", self.proof, cwd=self.dir)
                self.assertEqual(error.err.count("was changed"), 1, error)
            path.unlink()
            self.run_fails(3, [path.name + " is missing"], "verify", "--replay", self.proof, cwd=self.dir)
            path.write_bytes(whole)
        (self.proof / "notes.txt").write_text("x")
        self.run_fails(3, ["notes.txt does not belong to it"], "verify", "--replay", self.proof, cwd=self.dir)
        (self.proof / "notes.txt").unlink()
        self.assert_clean()

    def reseal(self, change):
        """What somebody can do who wants the bundle to agree with itself: change(evidence, files) and make all digests anew."""
        evidence = json.loads((self.proof / "evidence.json").read_text())
        files = {entry["name"]: (self.proof / entry["name"]).read_bytes() for entry in evidence["files"]}
        change(evidence, files)
        evidence["files"] = [{"name": name, "bytes": len(data), "sha256": sha256(data)} for name, data in sorted(files.items())]
        evidence.pop("digest")
        evidence["digest"] = sha256(json.dumps(evidence, separators=(",", ":"), ensure_ascii=False).encode())
        text = (json.dumps(evidence, indent=2, ensure_ascii=False) + "\n").encode()
        shutil.rmtree(self.proof)
        self.proof.mkdir()
        for name, data in files.items():
            (self.proof / name).write_bytes(data)
        (self.proof / "evidence.json").write_bytes(text)
        sums = [("evidence.json", text), *sorted(files.items())]
        (self.proof / "SHA256SUMS").write_text("".join(f"{sha256(data)}  {name}\n" for name, data in sums))


class Levels(Evidence):
    def test_tensors(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=3, shards=3)
        evidence = self.keep("a", "b", "--atol", "0.01", status=1)
        self.assertEqual((evidence["form"], evidence["plan"]), ("models", None))
        self.assertEqual(evidence["options"], {"level": "auto", "atol": 0.01, "rtol": 0.0, "detect": 0.001, "confidence": 0.99})
        for side, model in zip(evidence["sides"], (a, b)):
            digest = self.run_ok("digest", model, "--json").json()
            self.assertEqual((side["root"], side["weights_root"], side["config_hash"], side["tokenizer_hash"]),
                             (digest["root"], digest["weights_root"], digest["config_hash"], digest["tokenizer_hash"]))
            self.assertEqual({file["name"]: file["bytes"] for file in side["files"] if file["name"] != "model.safetensors.index.json"},
                             {path.name: path.stat().st_size for path in model.iterdir() if path.name != "model.safetensors.index.json"})
            for file in side["files"]:
                if file["sha256"]:
                    self.assertEqual(file["sha256"], sha256((model / file["name"]).read_bytes()))
            # The manifest is `digest -o`'s: of use without the rest.
            self.run_ok("digest", model, "--check", self.proof / f"{side['side']}.manifest.json")
        self.assertIn("report.html", {file["name"] for file in evidence["files"]})
        self.assert_clean()
        self.assert_tampering_is_found()
        # Other shards of the same weights are the same models.
        moved = write_model(self.dir / "moved", shards=7)
        replay = self.assert_clean(moved, b)
        self.assertEqual(replay["sides"][0]["known_by"], "every byte")
        self.assertIn("model.safetensors (is not there)", replay["sides"][0]["files"])
        # One number of one side: it is named, and which.
        change_a_weight(b, "model.layers.1.self_attn.q_proj.weight")
        replay = self.replay(status=1)["replay"]
        self.assertEqual([(side["side"], side["same"], side["changed"], side["tensors"]) for side in replay["sides"]],
                         [("a", True, [], []), ("b", False, ["weights"], ["model.layers.1.self_attn.q_proj.weight"])])
        self.assertIn("B is not as recorded: other weights (model.layers.1.self_attn.q_proj.weight)", replay["finding"])
        fields = {difference["field"] for difference in replay["differences"]}
        self.assertIn("tensors[model.layers.1.self_attn.q_proj.weight].b.digest", fields)
        self.assertIn("summary.b.root", fields)
        self.assertNotIn("verdict", fields)
        told = next(difference for difference in replay["differences"] if difference["field"] == "summary.b.root")
        self.assertEqual(told["recorded"], evidence["sides"][1]["root"])

    def test_models_that_change_alike_are_other_models(self):
        """A and B stay IDENTICAL, and are not those of the evidence."""
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", shards=2)
        self.keep("a", "b")
        change_a_weight(a)
        change_a_weight(b)
        replay = self.replay(status=1)["replay"]
        self.assertEqual((replay["recorded_verdict"], [side["same"] for side in replay["sides"]]), ("IDENTICAL", [False, False]))

    def test_config(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=3, config={"rope_theta": 5e6})
        evidence = self.keep("a", "b", "--level", "config", status=1)
        self.assertEqual([side["root"] for side in evidence["sides"]], [None, None])
        self.assertEqual([file["name"] for file in evidence["files"]], ["result.json"])
        self.assertEqual({side["known_by"] for side in self.assert_clean()["sides"]}, {"headers"})
        self.assert_tampering_is_found()
        self.assert_clean("a", write_model(self.dir / "c", shards=3, config={"rope_theta": 5e6}))
        config = json.loads((b / "config.json").read_text())
        (b / "config.json").write_text(json.dumps(dict(config, rope_theta=6e6)))
        replay = self.replay(status=1)["replay"]
        self.assertEqual([side["changed"] for side in replay["sides"]], [[], ["config"]])
        self.assertIn("config.keys[rope_parameters.rope_theta].b", [difference["field"] for difference in replay["differences"]])

    def test_fingerprint(self):
        tensors = large_tensors()
        name = "model.embed_tokens.weight"
        write_large(self.dir / "a", tensors)
        b = write_large(self.dir / "b", tensors, 3)
        evidence = self.keep("a", "b", "--level", "fingerprint", *AIM)
        self.assertEqual(evidence["plan"]["nonce"], NONCE)
        result = self.assert_clean()
        self.assertEqual({side["known_by"] for side in result["sides"]}, {"drawn blocks and headers"})
        # The prints are a fingerprint of each side, as the command makes it.
        self.run_ok("fingerprint", "b", "-o", "f.json", *AIM, cwd=self.dir)
        self.assertEqual((self.dir / "f.json").read_bytes(), (self.proof / "b.fingerprint.json").read_bytes())
        self.assert_clean("a", write_large(self.dir / "seven", tensors, 7))
        drawn = drawn_of(tensors)[name]
        # A block that was drawn, on both sides alike: the comparison finds nothing, the prints do.
        changed = with_a_bit_changed(tensors, name, 2048 * drawn[0])
        for side in ("c", "d"):
            write_large(self.dir / side, changed)
        result = self.replay("c", "d", status=1)
        self.assertEqual(result["verdict"], "SAME_SAMPLE")
        self.assertEqual([(side["same"], side["tensors"]) for side in result["replay"]["sides"]], [(False, [name]), (False, [name])])
        result = self.replay("a", "d", status=1)
        self.assertEqual(result["verdict"], "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")
        self.assertIn("B is not as recorded: other weights (model.embed_tokens.weight)", result["replay"]["finding"])
        # One that was not drawn is beyond this level, which says so.
        undrawn = next(i for i in range(1000) if i not in drawn)
        write_large(self.dir / "e", with_a_bit_changed(tensors, name, 2048 * undrawn))
        self.assert_clean("a", "e")

    def test_auto_draws_the_same_blocks_again(self):
        tensors = large_tensors()
        write_large(self.dir / "a", tensors)
        write_large(self.dir / "b", with_a_bit_changed(tensors, "model.embed_tokens.weight", 2048 * 1000 + 5), 3)
        evidence = self.keep("a", "b", "--detect", "0.05", status=1)  # a nonce of its own
        nonce = evidence["plan"]["nonce"]
        self.assertEqual(self.replay()["fingerprint"]["nonce"], nonce)
        write_large(self.dir / "c", large_tensors(2))
        self.proof = self.dir / "second"
        evidence = self.keep("a", "c", "--detect", "0.05", status=1)  # ends with the blocks
        self.assertNotEqual(evidence["plan"]["nonce"], nonce)
        self.assertEqual(json.loads((self.proof / "result.json").read_text())["level"], "fingerprint")
        self.assert_clean()

    def test_against_a_fingerprint(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", shards=2)
        self.run_ok("fingerprint", "a", "-o", "f.json", cwd=self.dir)
        evidence = self.keep("b", "--against", "f.json")
        self.assertEqual((evidence["form"], [side["kind"] for side in evidence["sides"]]), ("fingerprint", ["fingerprint", "safetensors"]))
        self.assertEqual((self.proof / "fingerprint.json").read_bytes(), (self.dir / "f.json").read_bytes())
        shutil.rmtree(a)  # neither A nor the file is needed
        (self.dir / "f.json").unlink()
        self.assert_clean()
        self.assert_tampering_is_found()
        self.assert_clean(write_model(self.dir / "other", shards=5))
        change_a_weight(b)
        result = self.replay(status=1)
        self.assertEqual(result["verdict"], "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS")

    def test_a_budget_that_has_no_room_for_a_sketch_is_no_difference(self):
        rows = 4096
        data = bytearray(os.urandom(2 * rows * rows))
        data[1::2] = b"\x3c" * (rows * rows)
        for name in ("a", "b"):
            (self.dir / name).mkdir()
            if name == "b":
                data[:: 64 * rows] = bytes(byte ^ 1 for byte in data[:: 64 * rows])
            write_safetensors(self.dir / name / "model.safetensors", {"model.layers.0.mlp.up_proj.weight": ("BF16", [rows, rows], bytes(data))})
        self.keep("a", "b", "--max-memory", budgets.mebibytes(48), status=1)
        kind = json.loads((self.proof / "result.json").read_text())["tensors"][0]["rank"]["kind"]
        self.assertEqual(kind, "not_sketched")
        result = self.run_ok("verify", "--replay", self.proof, "--max-memory", budgets.mebibytes(400), "--json", cwd=self.dir).json()
        self.assertEqual(result["tensors"][0]["rank"]["kind"], "sparse")
        self.assertEqual(result["replay"]["not_compared"],
                         ["summary.changes.sentence", "summary.changes.ranks", "tensors[model.layers.0.mlp.up_proj.weight].rank"])
        self.assertIn("no memory to look at", result["replay"]["finding"])

    def peak(self, *arguments, status):
        """What it printed, and the most that was resident, while that is taken from it bit by bit: printing comes after what it says itself."""
        command = [cli_models.SLUICE, *map(str, arguments), "--max-memory", budgets.mebibytes(64), "--json"]
        most, out = 0, b""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir) as process:
            while piece := process.stdout.read(1 << 16):
                out += piece
                most = max([most, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{process.pid}/status").read_text()))])
            errors = process.stderr.read()
        self.assertEqual(process.returncode, status, errors)
        self.assertGreater(most, 0)
        return json.loads(out), most / 1024

    def test_thousands_of_changed_tensors_stay_within_the_budget(self):
        tensors = {f"model.layers.{i // 10}.mlp.a_projection_of_some_length.{i % 10}.weight":
                   ("BF16", [16, 16], bytes([i % 251, 60] * 256)) for i in range(3000)}
        for name, bit in (("a", 0), ("b", 1)):
            (self.dir / name).mkdir()
            write_safetensors(self.dir / name / "model.safetensors",
                              {key: (dtype, shape, bytes([data[0] ^ bit]) + data[1:]) for key, (dtype, shape, data) in tensors.items()})
        budget = 64 + budgets.SANITIZER_MIB
        for arguments, status in ((("a", "b"), 1), (("a", "b", "--evidence", "proof"), 1), (("--replay", "proof"), 0)):
            result, peak = self.peak("verify", *arguments, status=status)
            self.assertLess(peak, budget, arguments)
            self.assertEqual(len(result["tensors"]), 3000)
        self.assertTrue(result["replay"]["reproduced"])
        self.assertEqual(json.loads((self.proof / "result.json").read_text())["tensors"], result["tensors"])

    def test_encodings_and_containers(self):
        write_model(self.dir / "a")
        write_gguf(self.dir / "b.gguf")
        self.keep("a", "b.gguf", "--level", "tensors", status=1)
        self.assert_clean()

    def test_sets_of_tensors_that_differ(self):
        """Blocks of the common tensors are no fingerprint of a side that has more: none is kept, and it reproduces."""
        write_model(self.dir / "a", extra={"model.extra": ("F32", [3], bytes(12))})
        write_model(self.dir / "b")
        evidence = self.keep("a", "b", "--level", "fingerprint", status=1)
        self.assertEqual([file["name"] for file in evidence["files"]], ["b.fingerprint.json", "report.html", "result.json"])
        self.assert_clean()


class Folders(Evidence):
    def setUp(self):
        super().setUp()
        for seed, name in enumerate(("base", "one", "two"), 1):
            write_model(self.dir / name, seed=seed)
        models = [("one", {"weight": 0.5, "density": 0.5}), ("two", {"weight": 0.3, "density": 0.5})]
        (self.dir / "r.yml").write_text(recipe_text("dare_ties", "base", models))
        self.run_ok("merge", "r.yml", "-o", "merged", "--seed", "7", cwd=self.dir)
        self.merged = self.dir / "merged"

    def test_a_recipe(self):
        evidence = self.keep("merged", "r.yml")
        a, b = evidence["sides"]
        self.assertEqual((a["kind"], a["seed"]), ("safetensors", None))
        self.assertEqual((b["kind"], b["seed"], b["arithmetic"]), ("recipe", 7, "exact"))  # of the statement
        self.assertEqual(sum(file["name"] == "model.safetensors" for file in b["files"]), 3)
        self.assertIn("r.yml", [file["name"] for file in b["files"]])
        (self.merged / "sluice_merge.json").rename(self.dir / "aside.json")
        self.assert_clean()  # the bundle knows the seed
        (self.dir / "aside.json").rename(self.merged / "sluice_merge.json")
        self.assert_tampering_is_found()
        change_a_weight(self.dir / "one")
        replay = self.replay(status=1)["replay"]
        self.assertEqual([side["changed"] for side in replay["sides"]], [[], ["weights"]])
        self.assertEqual(replay["sides"][1]["tensors"], ["model.norm.weight"])

    def test_a_statement(self):
        evidence = self.keep("merged")
        self.assertEqual((evidence["form"], [side["side"] for side in evidence["sides"]]), ("statement", ["model"]))
        self.assert_clean()
        self.assert_tampering_is_found()
        shutil.copytree(self.merged, self.dir / "elsewhere")
        self.assert_clean("elsewhere")
        change_a_weight(self.merged)
        replay = self.replay(status=1)["replay"]
        self.assertEqual(replay["recorded_verdict"], "IDENTICAL")
        self.assertEqual(replay["sides"][0]["tensors"], ["model.norm.weight"])

    def test_an_audit(self):
        evidence = self.keep("merged", "--sample", "0.5", "--facts", "0.5")
        result = json.loads((self.proof / "result.json").read_text())
        self.assertEqual(evidence["plan"], {"nonce": result["summary"]["nonce"]})
        self.assertEqual(evidence["options"], {"sample": 0.5, "facts": 0.5})
        self.assertEqual(self.replay()["summary"]["nonce"], result["summary"]["nonce"])
        self.assert_tampering_is_found()
        (self.merged / "mergekit_config.yml").write_text("x")
        shutil.copytree(self.merged, self.dir / "elsewhere")
        replay = self.replay("elsewhere", status=1)["replay"]
        self.assertIn("summary.contradictions", [difference["field"] for difference in replay["differences"]])

    def test_a_signature(self):
        key = self.dir / "key.pem"
        shutil.copy(DATA / "p256.key.pem", key)
        os.chmod(key, 0o600)
        (self.merged / "notes.txt").write_text("x")
        self.run_ok("sign", "merged", "--key", key, "--ignore", "notes.txt", cwd=self.dir)
        self.run_ok("digest", "merged", "-o", "manifest.json", cwd=self.dir)
        (self.merged / "download.log").write_text("x")
        evidence = self.keep("merged", "--signature", "merged/model.sig", "--key", DATA / "p256.pub.pem", "--manifest", "manifest.json",
                             "--ignore", "download.log")
        self.assertEqual(sorted(evidence["options"]["ignored"]), ["download.log", "model.sig"])
        self.assertTrue(all(file["sha256"] for file in evidence["sides"][0]["files"]))
        for file in ("key.pem", "manifest.json"):
            (self.dir / file).unlink()
        self.assert_clean()  # the bundle has the signature, the public key and the manifest
        self.assert_tampering_is_found()
        self.assertNotIn("PRIVATE", (self.proof / "key.pem").read_text())
        (self.merged / "README.md").write_text("other")
        result = self.replay(status=1)
        self.assertEqual(result["verdict"], "DIFFERENT_FILES")
        self.assertIn("README.md (", " ".join(result["replay"]["sides"][0]["files"]))

    def test_a_signature_of_what_is_no_model(self):
        papers = self.dir / "papers"
        papers.mkdir()
        (papers / "a.txt").write_text("a")
        key = self.dir / "key.pem"
        shutil.copy(DATA / "p256.key.pem", key)
        os.chmod(key, 0o600)
        self.run_ok("sign", papers, "--key", key)
        self.keep("papers", "--signature", "papers/model.sig", "--key", DATA / "p256.pub.pem")
        self.assert_clean()
        (papers / "a.txt").write_text("b")
        replay = self.replay(status=1)["replay"]
        self.assertEqual((replay["sides"][0]["known_by"], replay["sides"][0]["changed"]), ("files", ["files"]))


class Bundles(Evidence):
    def setUp(self):
        super().setUp()
        self.a, self.b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=3)

    def test_a_bundle_that_was_written_anew_is_found_by_the_models(self):
        self.keep("a", "b", status=1)

        def lie(evidence, files):
            result = json.loads(files["result.json"])
            result["verdict"] = "IDENTICAL"
            files["result.json"] = (json.dumps(result, indent=2) + "\n").encode()

        self.reseal(lie)
        replay = self.replay(status=1)["replay"]
        self.assertEqual([difference["field"] for difference in replay["differences"]], ["verdict"])
        self.assertIn("every byte of the models is as recorded", replay["finding"])
        self.assertIn("the result was edited", replay["finding"])

        def other_root(evidence, files):
            evidence["sides"][0]["root"] = "0" * 64

        self.reseal(other_root)
        self.run_fails(3, ["contradicts itself", "a.manifest.json"], "verify", "--replay", self.proof, cwd=self.dir)

    def test_what_a_bundle_may_not_ask(self):
        self.keep("a", "b", status=1)

        def asks(**more):
            return lambda evidence, files: evidence.update(more)

        good = json.loads((self.proof / "evidence.json").read_text())
        self.reseal(asks(form="telepathy"))
        self.run_fails(2, ["'telepathy' is not supported yet", "sluice 0"], "verify", "--replay", self.proof, cwd=self.dir)
        self.reseal(asks(form="models", options=dict(good["options"], level="behaviour")))
        self.run_fails(2, ["not supported yet"], "verify", "--replay", self.proof, cwd=self.dir)
        self.reseal(asks(options={"level": "auto"}))
        self.run_fails(3, ["options: 'atol'"], "verify", "--replay", self.proof, cwd=self.dir)
        self.reseal(asks(options=good["options"], plan={"nonce": "xyz"}))
        self.run_fails(3, ["'nonce' is none"], "verify", "--replay", self.proof, cwd=self.dir)
        self.reseal(asks(plan=None, sides=good["sides"][:1]))
        self.run_fails(3, ["it has 1 models"], "verify", "--replay", self.proof, cwd=self.dir)
        self.reseal(asks(sides=good["sides"], schema="sluice/evidence/v2"))
        self.run_fails(2, ["a newer sluice made this evidence"], "verify", "--replay", self.proof, cwd=self.dir)

    def test_no_bundle(self):
        self.run_fails(3, ["no such folder of evidence"], "verify", "--replay", self.dir / "nowhere")
        self.run_fails(3, ["evidence.json is missing"], "verify", "--replay", self.a)
        self.run_fails(3, ["is no folder"], "verify", "--replay", self.a / "config.json")

    def test_models_that_are_elsewhere_now(self):
        self.keep("a", "b", status=1)
        self.a.rename(self.dir / "moved")
        self.run_fails(3, ["a", "sluice verify --replay", "A B"], "verify", "--replay", self.proof, cwd=self.dir)
        self.assert_clean("moved", "b")
        self.run_fails(3, ["nowhere"], "verify", "--replay", self.proof, "nowhere", "b", cwd=self.dir)
        self.run_fails(2, ["it is of two models", "one is named"], "verify", "--replay", self.proof, "moved", cwd=self.dir)
        self.run_fails(2, ["3 are named"], "verify", "--replay", self.proof, "moved", "b", "b", cwd=self.dir)

    def test_a_replay_asks_nothing_of_its_own(self):
        self.keep("a", "b", status=1)
        for option in (["--level", "tensors"], ["--atol", "1"], ["--nonce", NONCE], ["--evidence", "x"], ["--force"], ["--report", "x.html"], ["--seed", "1"]):
            self.run_fails(2, ["leave", option[0], "away"], "verify", "--replay", self.proof, *option, cwd=self.dir)
        for memory, threads in (("64", "1"), ("512", "3")):
            self.run_ok("verify", "--replay", self.proof, "--threads", threads, "--max-memory", budgets.mebibytes(int(memory)), cwd=self.dir)
        self.assertIn('"dry_run": true', self.run_ok("verify", "--replay", self.proof, "--dry-run", "--json", cwd=self.dir).out)

    def test_the_same_run_gives_the_same_bytes(self):
        self.keep("a", "b", status=1)
        first = {path.name: path.read_bytes() for path in self.proof.iterdir()}
        self.run_ok("verify", "a", "b", "--evidence", self.proof, "--force", "--threads", "1", "--max-memory", budgets.mebibytes(64), status=1, cwd=self.dir)
        second = {path.name: path.read_bytes() for path in self.proof.iterdir()}
        # Seconds and memory are in the result and on the page, and so in the sums.
        differ = {name for name in first if first[name] != second[name]}
        self.assertLessEqual(differ, {"result.json", "report.html", "evidence.json", "SHA256SUMS"})
        without = lambda text: {key: value for key, value in json.loads(text).items() if key not in ("files", "digest")}
        self.assertEqual(without(first["evidence.json"]), without(second["evidence.json"]))

    def test_what_stands_there_is_kept_unless_forced(self):
        self.proof.mkdir()
        (self.proof / "mine.txt").write_text("x")
        self.run_fails(2, ["proof", "not empty", "--force"], "verify", "a", "b", "--evidence", self.proof, cwd=self.dir)
        self.assertEqual(os.listdir(self.proof), ["mine.txt"])
        self.run_ok("verify", "a", "b", "--evidence", self.proof, "--force", status=1, cwd=self.dir)
        self.assertNotIn("mine.txt", os.listdir(self.proof))
        self.run_fails(2, ["--force", "--evidence"], "verify", "a", "b", "--force", cwd=self.dir)
        # Never the models themselves.
        for folder in ("a", "b", "."):
            before = sorted(os.listdir(self.dir / folder))
            self.run_fails(2, ["--evidence", "would remove" if folder != "." else "--evidence"], "verify", "a", "b", "--evidence", folder, "--force", cwd=self.dir)
            self.assertEqual(sorted(os.listdir(self.dir / folder)), before)

    def test_what_cannot_be_done_again_is_refused_before_the_work(self):
        self.run_fails(2, ["--first-difference", "--evidence"], "verify", "a", "b", "--first-difference", "--evidence", self.proof, cwd=self.dir)
        key = self.dir / "key.pem"
        shutil.copy(DATA / "p256.key.pem", key)
        os.chmod(key, 0o600)
        self.run_ok("sign", "a", "--key", key, cwd=self.dir)
        self.run_fails(2, ["one more file of the model"], "verify", "a", "--signature", "a/model.sig", "--key", DATA / "p256.pub.pem",
                       "--evidence", "a/proof", cwd=self.dir)
        self.assertFalse(self.proof.exists())

    def test_an_error_and_a_plan_leave_nothing(self):
        before = sorted(os.listdir(self.dir))
        self.run_ok("verify", "a", "b", "--evidence", self.dir / "deep" / "proof", "--dry-run", cwd=self.dir)
        self.run_fails(3, ["nowhere"], "verify", "a", "nowhere", "--evidence", self.dir / "deep" / "proof", cwd=self.dir)
        (self.b / "model.safetensors").write_bytes((self.b / "model.safetensors").read_bytes()[:-5])
        self.run_fails(3, ["model.safetensors"], "verify", "a", "b", "--evidence", self.dir / "deep" / "proof", cwd=self.dir)
        self.assertEqual(sorted(os.listdir(self.dir)), before)

    def test_an_interrupted_run_leaves_nothing(self):
        write_sparse_model(self.dir / "x", 40)
        write_sparse_model(self.dir / "y", 40)
        before = sorted(os.listdir(self.dir))
        for stop in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([cli_models.SLUICE, "verify", "x", "y", "--level", "tensors", "--evidence", "proof", "--quiet"], cwd=self.dir,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)
            process.send_signal(stop)
            out, err = process.communicate(timeout=cli_models.TIMEOUT_SECONDS)
            self.assertEqual((process.returncode, out), (130, ""), err)
            self.assertEqual(sorted(os.listdir(self.dir)), before)

    def test_a_bundle_is_signed_like_a_model(self):
        self.keep("a", "b", status=1)
        key = self.dir / "key.pem"
        shutil.copy(DATA / "p256.key.pem", key)
        os.chmod(key, 0o600)
        self.run_ok("sign", self.proof, "--key", key, "-o", self.dir / "proof.sig")
        signed = ("verify", self.proof, "--signature", self.dir / "proof.sig", "--key", DATA / "p256.pub.pem")
        self.run_ok(*signed)
        self.assert_clean()
        self.reseal(lambda evidence, files: evidence.update(made_by="sluice 9.9.9"))
        self.run_ok(*signed, status=1)


if __name__ == "__main__":
    cli_models.main()
