"""Signatures both ways with PyPI's model-signing: each signs what the other checks, over P-256, P-384 and P-521; a changed, a missing and an extra file
fail in both, and so do another key and a payload that was touched. Needs a Python with model-signing: build/peers, which `make test-peers` fills."""

import base64
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
peers.enter()
if importlib.util.find_spec("model_signing") is None:
    peers.skip("model-signing is not installed")

import model_signing  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


class BothWays(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        self.model = self.dir / "model"
        for name, data in {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9000, "d/f": b"1", "d.x": b"2", "empty": b"", ".hidden": b"3",
                           "\u4f60\U0001f600": b"4", ".git/HEAD": b"ref", ".gitattributes": b"*", "d/.git/x": b"5"}.items():
            (self.model / name).parent.mkdir(parents=True, exist_ok=True)
            (self.model / name).write_bytes(data)
        self.signature = self.model / "model.sig"

    def keys(self, curve, passphrase=None):
        private = ec.generate_private_key(CURVES[curve])
        encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        self.key, self.public = self.dir / "key.pem", self.dir / "pub.pem"
        self.key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        self.public.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))

    def sluice(self, *arguments):
        return subprocess.run([SLUICE, *map(str, arguments), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ours_signs(self, *more):
        done = self.sluice("sign", self.model, "--key", self.key, "-o", self.signature, "--force", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def ours_verifies(self):
        done = self.sluice("verify", self.model, "--signature", self.signature, "--key", self.public)
        return done.returncode, json.loads(done.stdout)

    def theirs(self, *arguments):
        """Their own command line, as people use it."""
        command = [sys.executable, "-m", "model_signing", *map(str, arguments), "--signature", str(self.signature)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def theirs_signs(self, *more):
        done = self.theirs("sign", "key", self.model, "--private_key", self.key, *more)
        self.assertEqual(done.returncode, 0, done.stderr)

    def theirs_verifies(self):
        done = self.theirs("verify", "key", self.model, "--public_key", self.public)
        return done.returncode == 0, done.stdout + done.stderr

    def both_accept(self):
        status, result = self.ours_verifies()
        self.assertEqual((status, result.get("verdict")), (0, "IDENTICAL"), result)
        good, told = self.theirs_verifies()
        self.assertTrue(good, told)
        return result

    def both_find(self, name, change):
        status, result = self.ours_verifies()
        self.assertEqual((status, result["verdict"]), (1, "DIFFERENT_FILES"), result)
        self.assertEqual([(file["name"], file["class"]) for file in result["files"]], [(name, change)])
        good, told = self.theirs_verifies()
        self.assertFalse(good, told)
        self.assertIn({"changed": "Hash mismatch", "missing": "Missing files", "extra": "Extra files"}[change], told)
        self.assertIn(name, told)

    def both_find_each_change(self):
        self.both_accept()
        weights = self.model / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + b"\0")
        self.both_find("model.safetensors", "changed")
        weights.write_bytes(whole)
        (self.model / "d" / "f").rename(self.dir / "moved")
        self.both_find("d/f", "missing")
        (self.dir / "moved").rename(self.model / "d" / "f")
        (self.model / "d" / "g").write_bytes(b"")
        self.both_find("d/g", "extra")
        (self.model / "d" / "g").unlink()
        (self.model / ".gitattributes").write_bytes(b"other")  # which neither looks at
        self.both_accept()

    def test_ours_signs_theirs_verifies(self):
        for curve in CURVES:
            with self.subTest(curve):
                self.keys(curve)
                self.ours_signs()
                self.both_find_each_change()

    def test_theirs_signs_ours_verifies(self):
        for curve in CURVES:
            with self.subTest(curve):
                self.keys(curve)
                self.theirs_signs()
                self.both_find_each_change()

    def test_the_same_files_and_the_same_digest(self):
        self.keys("P-256")
        told = self.ours_signs()
        ours = json.loads(base64.b64decode(json.loads(self.signature.read_text())["dsseEnvelope"]["payload"]))
        self.theirs_signs()
        bundle = json.loads(self.signature.read_text())
        theirs = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        self.assertEqual(bundle["verificationMaterial"]["publicKey"]["hint"], told["key"]["hint"])
        for statement in (ours, theirs):
            statement["predicate"]["serialization"]["ignore_paths"].sort()
        self.assertEqual(ours, theirs)
        self.assertEqual(theirs["subject"][0]["digest"]["sha256"], told["digest"])

    def test_shards(self):
        self.keys("P-256")
        for size in (1_000_000, 4096, 999):
            hashing = model_signing.hashing.Config().use_shard_serialization(shard_size=size)
            hashing.set_ignored_paths(paths=[pathlib.Path("model.sig")])
            model_signing.signing.Config().use_elliptic_key_signer(private_key=self.key).set_hashing_config(hashing).sign(self.model, self.signature)
            status, result = self.ours_verifies()
            self.assertEqual((status, result.get("verdict")), (0, "IDENTICAL"), result)
            # Told how it was signed: what it reads of that in the signature, a float, it does not take (1.1.1).
            checker = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=self.public).set_hashing_config(hashing)
            checker.verify(self.model, self.signature)
            with open(self.model / "model.safetensors", "ab") as file:
                file.write(b"x")
            status, result = self.ours_verifies()
            self.assertEqual([(file["name"], file["class"]) for file in result["files"]], [("model.safetensors", "changed")])
            os.truncate(self.model / "model.safetensors", 256 * 9000)

    def test_links(self):
        self.keys("P-256")
        (self.model / "config.json").rename(self.dir / "blob")
        (self.model / "config.json").symlink_to(self.dir / "blob")
        self.ours_signs("--allow-symlinks")
        done = self.theirs("verify", "key", self.model, "--public_key", self.public, "--allow_symlinks")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.theirs_signs("--allow_symlinks")
        self.assertEqual(self.ours_verifies()[0], 0)

    def test_ignored_paths(self):
        self.keys("P-256")
        self.ours_signs("--ignore", "d")
        (self.model / "d" / "f").write_bytes(b"other")
        self.both_accept()
        self.theirs_signs("--ignore-paths", self.model / "d")
        (self.model / "d" / "f").write_bytes(b"another")
        self.both_accept()

    def test_a_key_with_a_passphrase(self):
        self.keys("P-384", passphrase=b"words")
        os.environ["SLUICE_PEER_PASS"] = "words"
        self.ours_signs("--passphrase-env", "SLUICE_PEER_PASS")
        self.both_accept()

    def test_one_file_is_a_model(self):
        self.keys("P-256")
        self.model = self.model / "model.safetensors"
        self.signature = self.dir / "one.sig"
        self.ours_signs()
        self.both_accept()
        self.theirs_signs()
        self.both_accept()

    def test_another_key_and_a_touched_payload(self):
        self.keys("P-256")
        self.ours_signs()
        bundle = json.loads(self.signature.read_text())
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b"config.json", b"confog.json")).decode()
        self.signature.write_text(json.dumps(bundle))
        self.assertEqual(self.ours_verifies()[0], 3)
        self.assertFalse(self.theirs_verifies()[0])
        self.ours_signs()
        self.keys("P-256")
        status, error = self.ours_verifies()
        self.assertEqual(status, 3)
        self.assertIn("another key", error["message"])
        self.assertFalse(self.theirs_verifies()[0])


if __name__ == "__main__":
    sys.exit(unittest.main())
