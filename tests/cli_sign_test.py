"""`sluice sign` and `sluice verify --signature`: what was changed, is missing or was added, keys that are not the signer's, bundles that were touched, and the
statement of a merge in the same read. The bundles of tests/data/model_signing are by PyPI's model-signing."""

import base64
import json
import os
import pathlib
import shutil
import stat

import cli_models
from cli_models import Case, recipe_text, sluice, write_gguf, write_model

DATA = pathlib.Path(__file__).resolve().parent / "data" / "model_signing"
FIELDS = ["schema", "verdict", "level", "proves", "does_not_prove", "config", "summary", "files", "tensors", "memory", "seconds", "bytes_read"]


class Signing(Case):
    def setUp(self):
        super().setUp()
        self.model = write_model(self.dir / "model", shards=3)
        for name in ("p256", "p384", "p521"):
            shutil.copy(DATA / f"{name}.pub.pem", self.dir)
            shutil.copy(DATA / f"{name}.key.pem", self.dir)
            os.chmod(self.dir / f"{name}.key.pem", 0o600)

    def sign(self, *more, model=None, key="p256", **how):
        return self.run_ok("sign", model or self.model, "--key", self.dir / f"{key}.key.pem", "--json", *more, **how).json()

    def verify(self, status=0, verdict="IDENTICAL", *more, model=None, signature=None, key="p256"):
        model = model or self.model
        command = ["verify", model, "--signature", signature or model / "model.sig", "--key", self.dir / f"{key}.pub.pem", *more]
        result = self.run_ok(*command, "--json", status=status).json()
        self.assertEqual(list(result), FIELDS)
        self.assertEqual((result["verdict"], result["level"]), (verdict, "files"))
        text = self.run_ok(*command, status=status).out
        self.assertTrue(text.startswith(verdict + " "), text)
        self.assertIn("does not prove", text)
        for file in result["files"]:
            self.assertIn(file["name"], text)
        return result

    def changes(self, result):
        return {file["name"]: file["class"] for file in result["files"]}


class SignedByUs(Signing):
    def test_sign_and_verify_over_each_curve(self):
        for key, curve in (("p256", "P-256"), ("p384", "P-384"), ("p521", "P-521")):
            told = self.sign("--force", key=key)
            self.assertEqual(told["key"]["curve"], curve)
            self.assertEqual(told["signature"], str(self.model / "model.sig"))
            names = sorted(path.name for path in self.model.iterdir() if path.name != "model.sig")
            self.assertEqual(sorted(file["name"] for file in told["files"]), names)
            result = self.verify(key=key)
            self.assertEqual(result["files"], [])
            self.assertEqual(result["summary"]["unchanged"], len(names))
            self.assertEqual(result["summary"]["key"]["hint"], told["key"]["hint"])
            self.assertEqual(result["bytes_read"], sum((self.model / name).stat().st_size for name in names))

    def test_the_bundle_is_what_the_format_says(self):
        self.sign()
        bundle = json.loads((self.model / "model.sig").read_text())
        self.assertEqual(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json")
        self.assertEqual(bundle["verificationMaterial"]["tlogEntries"], [])
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        self.assertEqual(payload["subject"][0]["name"], "model")
        serialization = payload["predicate"]["serialization"]
        self.assertEqual(serialization["ignore_paths"], [".git", ".gitattributes", ".github", ".gitignore", "model.sig"])
        self.assertEqual((serialization["method"], serialization["hash_type"], serialization["allow_symlinks"]), ("files", "sha256", False))

    def test_changed_missing_and_extra_files_are_told_apart(self):
        (self.model / "sub").mkdir()
        (self.model / "sub" / "notes.txt").write_text("notes")
        self.sign()
        shard = self.model / "model-00002-of-00003.safetensors"
        data = bytearray(shard.read_bytes())
        data[-1] ^= 1
        shard.write_bytes(data)
        (self.model / "sub" / "notes.txt").unlink()
        (self.model / "tokenizer.json.bak").write_text("{}")
        result = self.verify(1, "DIFFERENT_FILES")
        self.assertEqual(self.changes(result), {shard.name: "changed", "sub/notes.txt": "missing", "tokenizer.json.bak": "extra"})
        for key in ("changed", "missing", "extra"):
            self.assertEqual(result["summary"][key], 1)
        told = {file["name"]: (file["signed_digest"] is None, file["digest"] is None) for file in result["files"]}
        self.assertEqual(told, {shard.name: (False, False), "sub/notes.txt": (False, True), "tokenizer.json.bak": (True, False)})

    def test_each_single_change_is_found(self):
        self.sign()
        names = [path.name for path in self.model.iterdir() if path.name != "model.sig"]
        for name in names:
            path = self.model / name
            whole = path.read_bytes()
            path.write_bytes(whole + b"\n")
            self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {name: "changed"})
            path.unlink()
            self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {name: "missing"})
            path.write_bytes(whole)
        self.verify()

    def test_a_moved_file_is_missing_and_extra(self):
        self.sign()
        (self.model / "config.json").rename(self.model / "configuration.json")
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {"config.json": "missing", "configuration.json": "extra"})

    def test_the_answer_does_not_depend_on_threads_or_memory(self):
        told = [self.sign("--force", "--threads", threads, "--max-memory", memory)["digest"]
                for threads, memory in ((1, "64MiB"), (2, "64MiB"), (7, "1GiB"))]
        self.assertEqual(len(set(told)), 1)
        self.verify(0, "IDENTICAL", "--threads", "1", "--max-memory", "64MiB")

    def test_a_folder_under_another_name(self):
        self.sign()
        self.model = self.model.rename(self.dir / "renamed")
        self.assertEqual(self.verify()["summary"]["model_name"], "model")

    def test_one_file_is_a_model(self):
        model = write_gguf(self.dir / "model.gguf")
        told = self.sign(model=model)
        self.assertEqual(told["signature"], str(model) + ".sig")
        self.assertEqual([file["name"] for file in told["files"]], ["."])
        self.verify(model=model, signature=told["signature"])
        model.write_bytes(model.read_bytes() + b"x")
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES", model=model, signature=told["signature"])), {".": "changed"})

    def test_what_is_left_out_is_named(self):
        (self.model / ".gitattributes").write_text("x")
        (self.model / "cache").mkdir()
        (self.model / "cache" / "lock").write_text("x")
        told = self.sign("--ignore", "cache/")
        self.assertEqual(told["ignored"], [".gitattributes", "cache/lock"])
        (self.model / ".gitattributes").write_text("y")
        (self.model / "cache" / "more").write_text("x")
        result = self.verify()
        self.assertEqual(result["summary"]["ignored"], [".gitattributes", "cache/lock", "cache/more", "model.sig"])
        self.assertIn("4 files that the signature leaves out", result["does_not_prove"])
        (self.model / "download.log").write_text("x")
        self.verify(1, "DIFFERENT_FILES")
        self.verify(0, "IDENTICAL", "--ignore", "download.log")

    def test_ignoring_a_signed_file_does_not_make_it_good(self):
        self.sign()
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES", "--ignore", "config.json")), {"config.json": "missing"})

    def test_links(self):
        blob = self.dir / "blob"
        (self.model / "config.json").rename(blob)
        (self.model / "config.json").symlink_to(blob)
        key = self.dir / "p256.key.pem"
        self.run_fails(2, ["config.json", "--allow-symlinks"], "sign", self.model, "--key", key)
        self.sign("--allow-symlinks")
        self.verify()
        blob.write_text("{}")
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {"config.json": "changed"})
        (self.model / "more").symlink_to(self.dir)
        self.run_fails(2, ["more", "a link to a folder"], "verify", self.model, "--signature", self.model / "model.sig", "--key", self.dir / "p256.pub.pem")

    def test_a_signature_that_is_there_stays_without_force(self):
        self.sign()
        before = (self.model / "model.sig").read_bytes()
        self.run_fails(2, ["model.sig", "--force"], "sign", self.model, "--key", self.dir / "p256.key.pem")
        self.assertEqual((self.model / "model.sig").read_bytes(), before)
        self.sign("--force")
        self.assertNotEqual((self.model / "model.sig").read_bytes(), before)

    def test_a_place_that_cannot_be_written_is_found_first(self):
        (self.dir / "file").write_text("x")
        self.run_fails(6, ["file"], "sign", self.model, "--key", self.dir / "p256.key.pem", "-o", self.dir / "file" / "model.sig")

    def test_dry_run_signs_nothing(self):
        plan = self.sign("--dry-run")["plan"]
        self.assertEqual(plan["files"], len(list(self.model.iterdir())))
        self.assertFalse((self.model / "model.sig").exists())

    def test_too_little_memory_is_4(self):
        self.run_fails(4, ["--max-memory"], "sign", self.model, "--key", self.dir / "p256.key.pem", "--max-memory", "1MiB")


class Keys(Signing):
    def test_passphrases(self):
        key = DATA / "encrypted.key.pem"
        self.run_fails(2, ["encrypted", "--passphrase-env"], "sign", self.model, "--key", key)
        os.environ["SLUICE_TEST_PASS"] = "secret"
        self.addCleanup(os.environ.pop, "SLUICE_TEST_PASS", None)
        self.assertNotIn("secret", str(self.run_ok("sign", self.model, "--key", key, "--passphrase-env", "SLUICE_TEST_PASS")))
        self.verify()
        os.environ["SLUICE_TEST_PASS"] = "wrong words"
        told = self.run_fails(3, ["does not open the key"], "sign", self.model, "--key", key, "--passphrase-env", "SLUICE_TEST_PASS", "--force")
        self.assertNotIn("wrong words", str(told))
        self.run_fails(2, ["NO_SUCH_VARIABLE"], "sign", self.model, "--key", key, "--passphrase-env", "NO_SUCH_VARIABLE")

    def test_other_kinds_of_keys(self):
        for name, status, words in (("k256.key.pem", 2, ["secp256k1", "P-256"]), ("ed25519.key.pem", 2, ["ED25519"]), ("p256.pub.pem", 3, ["a public key"]),
                                    ("p256.sig", 3, ["no PEM text"]), ("absent.pem", 3, ["absent.pem"])):
            self.run_fails(status, [name, *words], "sign", self.model, "--key", DATA / name)
        self.sign()
        for name, status, words in (("p256.key.pem", 3, ["a private key"]), ("certificate.pem", 2, ["certificate"]), ("absent.pem", 3, ["absent.pem"])):
            self.run_fails(status, [name, *words], "verify", self.model, "--signature", self.model / "model.sig", "--key", DATA / name)

    def test_a_key_that_others_may_read_is_noted(self):
        self.assertNotIn("others may read", self.run_ok("sign", self.model, "--key", self.dir / "p256.key.pem").err)
        os.chmod(self.dir / "p256.key.pem", 0o644)
        self.assertIn("others may read", self.run_ok("sign", self.model, "--key", self.dir / "p256.key.pem", "--force").err)

    def test_a_private_key_in_the_model_is_refused(self):
        shutil.copy(self.dir / "p256.key.pem", self.model / "key.pem")
        self.run_fails(2, ["key.pem", "would go with it"], "sign", self.model, "--key", self.model / "key.pem")
        self.assertFalse((self.model / "model.sig").exists())

    def test_another_key_is_never_the_same(self):
        self.sign()
        self.run_fails(3, ["model.sig", "made by another key"], "verify", self.model, "--signature", self.model / "model.sig", "--key",
                       self.dir / "p384.pub.pem")


class Bundles(Signing):
    def setUp(self):
        super().setUp()
        self.sign()
        self.bundle = json.loads((self.model / "model.sig").read_text())

    def fails(self, words, status=3):
        (self.model / "model.sig").write_text(json.dumps(self.bundle))
        self.run_fails(status, ["model.sig", *words], "verify", self.model, "--signature", self.model / "model.sig", "--key", self.dir / "p256.pub.pem")

    def payload(self, change):
        payload = json.loads(base64.b64decode(self.bundle["dsseEnvelope"]["payload"]))
        change(payload)
        self.bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    def test_a_payload_that_was_changed(self):
        self.payload(lambda payload: payload["predicate"]["resources"].pop())
        self.fails(["the payload was changed", "subject.digest"])

    def test_a_payload_written_another_way(self):
        self.payload(lambda payload: None)  # other white space
        self.fails(["the payload or the signature was changed"])

    def test_a_signature_that_was_changed(self):
        signature = bytearray(base64.b64decode(self.bundle["dsseEnvelope"]["signatures"][0]["sig"]))
        signature[-1] ^= 1
        self.bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
        self.fails(["the payload or the signature was changed"])

    def test_the_signature_of_another_model(self):
        other = write_model(self.dir / "other", seed=2)
        self.sign(model=other)
        self.bundle["dsseEnvelope"]["signatures"] = json.loads((other / "model.sig").read_text())["dsseEnvelope"]["signatures"]
        self.fails(["the payload or the signature was changed"])

    def test_no_base64(self):
        self.bundle["dsseEnvelope"]["payload"] = "*" * 8
        self.fails(["dsseEnvelope.payload", "no base64"])

    def test_no_json(self):
        (self.model / "model.sig").write_text(json.dumps(self.bundle)[:-20])
        self.run_fails(3, ["model.sig", "line 1"], "verify", self.model, "--signature", self.model / "model.sig", "--key", self.dir / "p256.pub.pem")

    def test_a_certificate_is_not_supported_yet(self):
        self.bundle = json.loads((DATA / "certificate.sig").read_text())
        self.fails(["certificate", "not supported yet"], status=2)

    def test_no_bundle_and_no_model(self):
        key = self.dir / "p256.pub.pem"
        self.run_fails(3, ["absent.sig"], "verify", self.model, "--signature", self.dir / "absent.sig", "--key", key)
        self.run_fails(3, ["absent"], "verify", self.dir / "absent", "--signature", self.model / "model.sig", "--key", key)

    def test_options_that_do_not_go_together(self):
        key, signature = self.dir / "p256.pub.pem", self.model / "model.sig"
        self.run_fails(2, ["--signature", "--key"], "verify", self.model, "--signature", signature)
        self.run_fails(2, ["--signature", "--key"], "verify", self.model, "--key", key)
        self.run_fails(2, ["one model"], "verify", self.model, self.model, "--signature", signature, "--key", key)
        self.run_fails(2, ["one at a time"], "verify", self.model, "--signature", signature, "--key", key, "--sample", "1")
        self.run_fails(2, ["--ignore"], "verify", self.model, self.model, "--ignore", "x")


class SignedByModelSigning(Signing):
    """What PyPI's model-signing 1.1.1 signed: tests/data/model_signing/make.py."""

    def setUp(self):
        super().setUp()
        self.model = self.dir / "theirs"
        shutil.copytree(DATA / "model", self.model)

    def test_by_files_and_by_shards(self):
        for name in ("p256", "p384", "p521", "shards"):
            key = name if name != "shards" else "p256"
            result = self.verify(signature=DATA / f"{name}.sig", key=key)
            self.assertEqual(result["summary"]["ignored"], [".github/ignored.yml"])
            self.assertEqual(result["summary"]["shard_bytes"], 7 if name == "shards" else None)
        (self.model / "sub" / "weights.data").write_bytes(b"eight by\0\1\2\4")
        (self.model / "extra").write_text("x")
        (self.model / "config.json").unlink()
        for name in ("p256", "shards"):
            result = self.verify(1, "DIFFERENT_FILES", signature=DATA / f"{name}.sig")
            self.assertEqual(self.changes(result), {"config.json": "missing", "extra": "extra", "sub/weights.data": "changed"})


class WithAManifest(Signing):
    def test_signature_and_manifest_in_one_read(self):
        manifest = self.dir / "m.json"
        self.run_ok("digest", self.model, "-o", manifest)
        self.sign()
        result = self.verify(0, "IDENTICAL", "--manifest", manifest)
        self.assertTrue(result["summary"]["manifest"]["same"])
        self.assertEqual(result["bytes_read"], sum(path.stat().st_size for path in self.model.iterdir() if path.name != "model.sig"))
        self.assertIn("the model is the manifest's", result["proves"])

        write_model(self.model, seed=2, shards=3)
        self.sign("--force")
        result = self.verify(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", "--manifest", manifest)
        self.assertEqual({d["class"] for d in result["summary"]["manifest"]["differences"]}, {"changed"})
        self.run_fails(2, ["--manifest", "digest"], "verify", self.model, "--manifest", manifest)
        manifest.write_text(manifest.read_text().replace('"root": "', '"root": "0', 1))
        self.run_fails(3, ["m.json"], "verify", self.model, "--signature", self.model / "model.sig", "--key", self.dir / "p256.pub.pem", "--manifest", manifest)

    def test_a_signature_by_shards_reads_the_tensors_again(self):
        model = self.dir / "theirs"
        shutil.copytree(DATA / "model", model)
        self.run_ok("digest", self.model, "-o", self.dir / "m.json")
        # No model at all: the files are as they were signed, and that is what cannot be opened.
        self.run_fails(3, ["theirs"], "verify", model, "--signature", DATA / "shards.sig", "--key", self.dir / "p256.pub.pem", "--manifest", self.dir / "m.json")


class Merged(Signing):
    def setUp(self):
        super().setUp()
        write_model(self.dir / "a")
        write_model(self.dir / "b", update_seed=2)
        (self.dir / "r.yml").write_text(recipe_text("linear", None, [("a", {"weight": 1}), ("b", {"weight": 1})]))
        self.model = self.dir / "merged"
        self.run_ok("merge", self.dir / "r.yml", "-o", self.model, "--out-shard-size", "20k")
        self.sign()

    def test_signature_and_statement_in_one_read(self):
        result = self.verify()
        self.assertEqual(result["summary"]["statement"]["verdict"], "IDENTICAL")
        self.assertEqual(result["summary"]["statement"]["root"], self.run_ok("digest", self.model, "--json").json()["root"])
        size = sum(path.stat().st_size for path in self.model.iterdir() if path.name != "model.sig")
        self.assertEqual(result["bytes_read"], size)
        self.assertIn("statement names", result["proves"])
        alone = self.run_ok("verify", self.model, "--json").json()
        for key in ("root", "weights_root", "tensors", "bytes"):
            self.assertEqual(result["summary"]["statement"][key], alone["summary"][key])

    def test_a_tensor_that_was_changed_is_named_too(self):
        shard = sorted(self.model.glob("*.safetensors"))[0]
        name, (_, shape, data) = next(iter(sorted(cli_models.read_safetensors(shard).items())))
        whole = shard.read_bytes()
        at = whole.index(data)
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        result = self.verify(1, "DIFFERENT_FILES")
        self.assertEqual(self.changes(result), {shard.name: "changed"})
        self.assertEqual(result["tensors"], [{"name": name, "class": "changed"}])

    def test_a_merge_that_no_longer_opens_is_still_compared(self):
        shard = sorted(self.model.glob("*.safetensors"))[0]
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-8])
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {shard.name: "changed"})
        shard.write_bytes(whole)
        (self.model / "sluice_merge.json").write_text("{")
        self.assertEqual(self.changes(self.verify(1, "DIFFERENT_FILES")), {"sluice_merge.json": "changed"})
        self.sign("--force")
        self.run_fails(3, ["sluice_merge.json"], "verify", self.model, "--signature", self.model / "model.sig", "--key", self.dir / "p256.pub.pem")

    def test_a_signed_folder_whose_statement_is_of_another(self):
        statement = json.loads((self.model / "sluice_merge.json").read_text())
        statement["root"] = "0" * 64
        (self.model / "sluice_merge.json").write_text(json.dumps(statement, indent=2) + "\n")
        self.sign("--force")
        result = self.verify(1, "SAME_WEIGHTS")
        self.assertEqual(result["files"], [])
        self.assertIn("names another root", result["proves"])


if __name__ == "__main__":
    cli_models.main()
