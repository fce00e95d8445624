"""What verify, fingerprint, sign, digest and lineage do with input that is broken, changed, empty or has nothing to compare: an error that says what is wrong,
or the verdict that is true, and never "same" after an error; nothing is left behind."""

import base64
import concurrent.futures
import copy
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import time

import cli_models
from cli_models import Case, sluice, write_model, write_safetensors, write_sparse_model

TESTS = pathlib.Path(__file__).resolve().parent
CORPUS = TESTS / "corpus"
KEYS = TESTS / "data" / "model_signing"
LEVELS = ("config", "fingerprint", "tensors", "auto")
SAME = ("IDENTICAL", "EQUAL_AFTER_CAST", "SAME_SAMPLE", "SAME_CONFIG")


class Kept(Case):
    """A good model with all that can be kept of it, and a fine-tune."""

    def setUp(self):
        super().setUp()
        self.good = write_model(self.dir / "good")
        self.tune = write_model(self.dir / "tune", update_seed=2)
        self.key, self.public = self.dir / "key.pem", self.dir / "public.pem"
        shutil.copy(KEYS / "p256.key.pem", self.key)
        shutil.copy(KEYS / "p256.pub.pem", self.public)
        os.chmod(self.key, 0o600)
        self.fingerprint, self.manifest, self.signature = self.dir / "good.fp.json", self.dir / "good.manifest.json", self.dir / "good.sig"
        self.run_ok("fingerprint", self.good, "-o", self.fingerprint)
        self.run_ok("digest", self.good, "-o", self.manifest)
        self.run_ok("sign", self.good, "--key", self.key, "-o", self.signature)


class Corpus(Kept):
    """The malformed corpus of the parsers' fuzz targets, as models."""

    def commands(self, model, out):
        for level in LEVELS:
            yield ("verify", model, self.good, "--level", level)
        yield ("verify", self.good, model)
        yield ("verify", model, model, "--level", "tensors")
        yield ("fingerprint", model, "-o", out)
        yield ("verify", model, "--against", self.fingerprint)
        yield ("digest", model, "-o", out)
        yield ("digest", model, "--check", self.manifest)
        yield ("sign", model, "--key", self.key, "-o", out)
        yield ("verify", model, "--signature", self.signature, "--key", self.public)
        yield ("lineage", model, "--base", self.good, "--candidates", self.tune)
        yield ("lineage", self.tune, "--base", model, "--candidates", self.good)
        yield ("lineage", self.tune, "--base", self.good, "--candidates", model)

    def run_one(self, arguments, out, equal_is_true):
        """What is wrong with what a command did, or nothing."""
        result = sluice(*arguments)
        if result.status not in (0, 1, 2, 3, 5):
            return f"exit {result.status}"
        if result.status in (2, 3):
            if result.out:
                return "an error and a result"
            if "sluice: error: " not in result.err:
                return "no error told"
            if out.exists():
                return "an output after an error"
        elif arguments[0] == "verify" and not result.out.split()[0].isupper():
            return "no verdict"
        # The good model's weights are random numbers, which none of these files has.
        if arguments[0] == "verify" and result.status == 0 and arguments[1] != arguments[2] and not equal_is_true:
            return "same"
        if out.exists():
            out.unlink()
        return None

    def sweep(self, models, equal_is_true=False, commands=None):
        """models: (what to call it, its reference)."""
        jobs = []
        for name, model in models:
            for i, arguments in enumerate((commands or self.commands)(model, self.dir / "out")):
                out = self.dir / f"out-{len(jobs)}"
                jobs.append((name, [out if a == self.dir / "out" else a for a in arguments], out))
        before = sorted(os.listdir(self.dir))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            wrong = list(pool.map(lambda job: self.run_one(job[1], job[2], equal_is_true), jobs))
        told = [f"{name}: {' '.join(map(str, arguments))}: {what}" for (name, arguments, _), what in zip(jobs, wrong) if what]
        self.assertEqual(told, [])
        self.assertEqual(sorted(os.listdir(self.dir)), before, "something was left behind")
        return len(jobs)

    def folder_with(self, kind, file, name, base=None):
        folder = self.dir / f"{kind}-{name}-{file.name}"
        if base:
            shutil.copytree(base, folder)
        else:
            folder.mkdir()
        shutil.copy(file, folder / name)
        return folder

    def test_containers(self):
        models = []
        for kind in ("safetensors", "gguf", "gguf_checkpoint", "torch_file", "zip_archive"):
            files = sorted((CORPUS / kind).iterdir())
            self.assertGreater(len(files), 10)
            for file in files:
                ending = "safetensors" if kind == "safetensors" else "gguf" if kind.startswith("gguf") else "bin"
                name = "pytorch_model.bin" if ending == "bin" else f"model.{ending}"
                folder = self.folder_with(kind, file, name)
                models.append((f"{kind}/{file.name}", folder / name if ending == "gguf" else folder))
        self.assertGreater(self.sweep(models), 1500)

    def test_indexes(self):
        models = [(file.name, self.folder_with("index", file, "model.safetensors.index.json", self.good))
                  for file in sorted((CORPUS / "folder_index").iterdir())]
        self.sweep(models)

    def test_configs_and_tokenizers(self):
        def commands(model, out):
            return [arguments for i, arguments in enumerate(self.commands(model, out)) if i in (0, 2, 4, 6, 7, 9, 11)]

        models = []
        for kind, name in (("model_config", "config.json"), ("json_document", "tokenizer.json"), ("json_document", "tokenizer_config.json"),
                           ("tokenizer_json", "tokenizer.json"), ("json_document", "generation_config.json")):
            for file in sorted((CORPUS / kind).iterdir()):
                models.append((f"{kind}/{file.name} as {name}", self.folder_with(kind, file, name, self.good)))
        # A generation config, and what is valid JSON by chance, may leave the model what it was.
        self.sweep(models, equal_is_true=True, commands=commands)

    def test_recipes_and_adapters(self):
        models = []
        for file in sorted((CORPUS / "recipe").iterdir()):
            recipe = self.dir / f"{file.name}.yml"
            shutil.copy(file, recipe)
            models.append((f"recipe/{file.name}", recipe))
        for file in sorted((CORPUS / "lora_config").iterdir()):
            folder = self.folder_with("lora", file, "adapter_config.json")
            write_safetensors(folder / "adapter_model.safetensors", {"base_model.model.nowhere.lora_A.weight": ("F32", [1, 2], bytes(8))})
            models.append((f"lora_config/{file.name}", f"{self.good}+{folder}"))
        self.sweep(models)

    def test_papers(self):
        """As fingerprint, manifest, signature and key: never good."""
        def commands(paper, _):
            yield ("verify", self.good, "--against", paper)
            yield ("digest", self.good, "--check", paper)
            yield ("verify", self.good, "--signature", paper, "--key", self.public)
            yield ("verify", self.good, "--signature", self.signature, "--key", paper)
            yield ("sign", self.good, "--key", paper, "-o", self.dir / "out")

        papers = []
        for kind in ("fingerprint", "model_signature", "json_document"):
            for file in sorted((CORPUS / kind).iterdir()):
                papers.append((f"{kind}/{file.name}", file))
        for name, paper in papers:
            for arguments in commands(paper, None):
                result = sluice(*arguments)
                self.assertIn(result.status, (1, 2, 3), (name, arguments, result))
                self.assertFalse((self.dir / "out").exists(), (name, arguments))


class Tampered(Kept):
    """Papers that were changed after they were made: each value, and bytes anywhere."""

    def checks(self):
        yield self.manifest, lambda file: ("digest", self.good, "--check", file)
        yield self.fingerprint, lambda file: ("verify", self.good, "--against", file)
        yield self.signature, lambda file: ("verify", self.good, "--signature", file, "--key", self.public)

    # What is for people, or what the format leaves unsigned: whose path it was, a note, a name of the key.
    FREE = {("ref",), ("about",), ("dsseEnvelope", "signatures", 0, "keyid")}
    OPTIONAL = {("verificationMaterial", "tlogEntries"), ("verificationMaterial", "publicKey", "hint")}  # looked at where they are

    def leaves(self, node, path=()):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from self.leaves(value, (*path, key))
        elif isinstance(node, list):
            for i, value in enumerate(node):
                yield from self.leaves(value, (*path, i))
        else:
            yield path, node

    def other_values(self, value):
        if isinstance(value, bool):
            return [not value]
        if isinstance(value, str):
            return [("1" if value[0] != "1" else "2") + value[1:], value[:-1]] if value else ["x"]
        return [1] if value is None else [value + 1]

    def test_every_value(self):
        for paper, check in self.checks():
            whole = json.loads(paper.read_text())
            bad = self.dir / f"bad-{paper.name}"
            bad.write_text(json.dumps(whole))
            self.run_ok(*check(bad))  # other white space is no other paper
            changed = 0
            for path, value in self.leaves(whole):
                for other in self.other_values(value):
                    document = copy.deepcopy(whole)
                    at = document
                    for step in path[:-1]:
                        at = at[step]
                    at[path[-1]] = other
                    bad.write_text(json.dumps(document))
                    result = sluice(*check(bad))
                    if path in self.FREE:
                        self.assertEqual(result.status, 0, (path, result))
                        continue
                    changed += 1
                    self.assertIn(result.status, (2, 3), (paper.name, path, other, result))
                    self.assertEqual(result.out, "")
                    self.assertIn(bad.name, result.err)
            self.assertGreater(changed, 8)

    def test_which_part(self):
        def fails(paper, change, *words):
            document = json.loads(paper.read_text())
            change(document)
            bad = self.dir / "bad.json"
            bad.write_text(json.dumps(document))
            check = next(check for of, check in self.checks() if of == paper)
            self.run_fails(3, ["bad.json", *words], *check(bad))

        zeros = "0" * 64
        fails(self.manifest, lambda d: d.update(root=zeros), "contradicts itself", "root, config_hash or tokenizer_hash")
        fails(self.manifest, lambda d: d.update(tokenizer_hash=zeros), "contradicts itself", "root, config_hash or tokenizer_hash")
        fails(self.manifest, lambda d: d["tensors"][2].update(digest=zeros), "contradicts itself", "tensors[]")
        fails(self.fingerprint, lambda d: d.update(confidence=0.9), "changed after it was made", "header")
        fails(self.fingerprint, lambda d: d["tensors"][2].update(values=zeros), "changed after it was made", "tensor model.layers.0.input_layernorm.weight")
        fails(self.fingerprint, lambda d: d["tensors"].pop(), "changed after it was made", "list of tensors")
        fails(self.signature, lambda d: d["verificationMaterial"]["publicKey"].update(hint=zeros), "another key")

        def change_payload(document):
            payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b'"predicateType"', b'"predicatetype"')
            document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()

        fails(self.signature, change_payload, "the payload")

    def test_bytes_anywhere(self):
        """A bit that flips, a byte that is lost, one too many, an end that is missing."""
        draw = random.Random(7)
        for paper, check in self.checks():
            whole = paper.read_bytes()
            document = json.loads(whole)
            for path in self.FREE | self.OPTIONAL:
                at = document
                for step in path[:-1]:
                    at = at.get(step, {}) if isinstance(at, dict) else at[step]
                if isinstance(at, dict):
                    at.pop(path[-1], None)
            # Without these, and without white space, every byte counts.
            whole = json.dumps(document, separators=(",", ":")).encode()
            bad = self.dir / f"bad-{paper.name}"
            bad.write_bytes(whole)
            self.run_ok(*check(bad))
            for how in ("flip", "lose", "add", "cut"):
                for _ in range(25):
                    at = draw.randrange(len(whole))
                    changed = {"flip": whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :], "lose": whole[:at] + whole[at + 1 :],
                               "add": whole[:at] + b"7" + whole[at:], "cut": whole[:at]}[how]
                    bad.write_bytes(changed)
                    result = sluice(*check(bad))
                    if result.status == 0:  # the same values: a hexadecimal digit in upper case, a 20th decimal place
                        self.assertEqual(json.loads(changed.lower()), json.loads(whole.lower()), (paper.name, how, at))
                        continue
                    self.assertIn(result.status, (2, 3), (paper.name, how, at, result))
                    self.assertEqual(result.out, "")


class Changing(Kept):
    """Files that are written to while they are read."""

    def setUp(self):
        super().setUp()
        self.model, self.other = write_sparse_model(self.dir / "sparse", 1), write_sparse_model(self.dir / "other", 1)
        self.run_ok("sign", self.model, "--key", self.key, "-o", self.dir / "sparse.sig")
        self.run_ok("digest", self.model, "-o", self.dir / "sparse.json")

    def has_open(self, pid, file):
        try:
            return any(os.path.realpath(fd) == str(file) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # a file was closed while it was looked at
            return False

    def change_during(self, *arguments):
        """Stops the command once it has the file open, writes a byte into it, and lets it go on."""
        file = (self.model / "model.safetensors").resolve()
        process = subprocess.Popen([cli_models.SLUICE, *map(str, arguments), "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if self.has_open(process.pid, file):
                    break
                time.sleep(0.002)
            time.sleep(0.05)
            self.assertIsNone(process.poll(), "it ended before the file could be changed")
            process.send_signal(signal.SIGSTOP)
            with open(file, "r+b") as opened:
                opened.seek(-100, os.SEEK_END)
                opened.write(b"\0")
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=cli_models.TIMEOUT_SECONDS)
        finally:
            process.kill()
        self.assertEqual(process.returncode, 3, (arguments, out, err))
        error = json.loads(out)
        self.assertEqual(error["schema"], "sluice/error/v1")
        told = " ".join([error["message"], *error["context"]])
        self.assertIn("changed while it was read", told)
        self.assertIn("model.safetensors", told)

    def test_every_command_notices(self):
        out = self.dir / "out"
        for arguments in (("verify", self.model, self.other, "--level", "tensors", "--report", out),
                          ("verify", self.model, self.other, "--level", "fingerprint", "--detect", "0.00001"),
                          ("verify", self.model, "--signature", self.dir / "sparse.sig", "--key", self.public),
                          ("fingerprint", self.model, "-o", out, "--detect", "0.00001"),
                          ("digest", self.model, "-o", out),
                          ("digest", self.model, "--check", self.dir / "sparse.json"),
                          ("sign", self.model, "--key", self.key, "-o", out),
                          ("lineage", self.model, "--base", self.other, "--candidates", self.other),
                          ("lineage", self.other, "--base", self.other, "--candidates", self.model)):
            with self.subTest(arguments=arguments):
                self.change_during(*arguments)
                self.assertFalse(out.exists(), arguments)

    def test_an_audit_notices(self):
        parents = [write_sparse_model(self.dir / name, 0.3) for name in ("one", "two")]
        (self.dir / "r.yml").write_text("merge_method: linear\nmodels:\n  - {model: one, parameters: {weight: 0.5}}\n"
                                        "  - {model: two, parameters: {weight: 0.5}}\n")
        merged = self.dir / "merged"
        self.run_ok("merge", self.dir / "r.yml", "-o", merged)
        for self.model in (parents[0], merged):
            self.change_during("verify", merged, "--sample", "1", "--threads", "1")


class NothingToCompare(Kept):
    def test_two_models_without_a_tensor_in_common(self):
        sizes = cli_models.shapes()
        values = cli_models.values_of(5)
        other = self.dir / "stranger"
        other.mkdir()
        write_safetensors(other / "model.safetensors",
                          {"transformer." + name: ("BF16", sizes[name], cli_models.bf16(numbers)) for name, numbers in values.items()})
        (other / "config.json").write_text(json.dumps({"architectures": ["StrangeForCausalLM"], "model_type": "strange"}))
        for level in LEVELS:
            result = self.run_ok("verify", self.good, other, "--level", level, "--json", status=1).json()
            self.assertEqual(result["verdict"], "DIFFERENT_ARCHITECTURE", level)
        self.assertEqual(self.run_ok("verify", other, "--against", self.fingerprint, "--json", status=1).json()["verdict"], "DIFFERENT_ARCHITECTURE")
        result = self.run_ok("verify", self.good, other, "--level", "tensors", "--json", status=1).json()
        self.assertEqual((result["summary"]["only_in_a"], result["summary"]["only_in_b"]), (21, 21))
        self.assertEqual((result["summary"]["elements"], result["summary"]["changed_elements"]), (0, 0))
        # Each tensor that has no other is told once.
        text = self.run_ok("verify", self.good, other, "--level", "tensors", status=1).out
        self.assertEqual(text.count("model.layers.0.mlp.down_proj.weight "), 1, text)
        self.assertIn("21 only in A, 21 only in B", text)
        page = self.dir / "page.html"
        self.run_ok("verify", self.good, other, "--level", "tensors", "--report", page, status=1)
        self.assertNotIn("Where they differ", page.read_text())
        self.run_fails(2, ["no tensor"], "lineage", other, "--base", self.good, "--candidates", self.tune)
        self.run_fails(2, ["no tensor"], "lineage", self.tune, "--base", other, "--candidates", self.good)
        result = self.run_ok("digest", other, "--check", self.manifest, "--json", status=1).json()["check"]
        self.assertEqual({d["class"] for d in result["differences"]}, {"missing", "extra"})

    def test_one_path_twice_is_said_and_compared(self):
        link = self.dir / "link"
        link.symlink_to(self.good)
        for other in (self.good, self.dir / "." / "good", link):
            for level, verdict in zip(LEVELS, ("SAME_CONFIG", "SAME_SAMPLE", "IDENTICAL", "IDENTICAL")):
                result = self.run_ok("verify", self.good, other, "--level", level)
                self.assertIn("A and B are one path", result.err)
                self.assertTrue(result.out.startswith(verdict + " "), result.out)
        read = self.run_ok("verify", self.good, self.good, "--level", "tensors", "--json").json()["bytes_read"]
        self.assertGreaterEqual(read, (self.good / "model.safetensors").stat().st_size - 4096)

    def test_numbers_of_arguments(self):
        self.run_fails(2, ["REF is required"], "verify")
        self.run_fails(2, ["sluice_merge.json", "name the model"], "verify", self.good)
        self.run_fails(2, ["too many"], "verify", self.good, self.tune, self.good)
        self.run_fails(2, ["required"], "fingerprint")
        self.run_fails(2, ["required"], "sign")
        self.run_fails(2, ["required"], "lineage", self.good)
        self.run_fails(2, ["one argument too many"], "digest", self.good, self.tune)

    def test_folders_without_a_model(self):
        empty, config_only = self.dir / "empty", self.dir / "config-only"
        for folder in (empty, config_only):
            folder.mkdir()
        shutil.copy(self.good / "config.json", config_only)
        for folder, word in ((empty, "no files"), (config_only, "no weights")):
            for level in LEVELS:
                self.run_fails(3, [folder.name, word], "verify", folder, self.good, "--level", level)
                self.run_fails(3, [folder.name, word], "verify", self.good, folder, "--level", level)
                self.run_fails(3, [folder.name, word], "verify", folder, folder, "--level", level)
            out = self.dir / "out.json"
            self.run_fails(3, [folder.name], "fingerprint", folder, "-o", out)
            self.run_fails(3, [folder.name], "verify", folder, "--against", self.fingerprint)
            self.run_fails(3, [folder.name], "digest", folder, "-o", out)
            self.run_fails(3, [folder.name], "lineage", folder, "--base", self.good, "--candidates", self.tune)
            self.run_fails(3, [folder.name], "lineage", self.tune, "--base", self.good, "--candidates", folder)
            self.assertFalse(out.exists())
        self.run_fails(2, ["no file to sign"], "sign", empty, "--key", self.key)
        self.assertEqual(os.listdir(empty), [])
        # Signed files that are gone are missing, not an error.
        result = self.run_ok("verify", config_only, "--signature", self.signature, "--key", self.public, "--json", status=1).json()
        self.assertEqual(result["verdict"], "DIFFERENT_FILES")

    def test_what_is_no_file(self):
        for name in ("/dev/null", "/dev/zero"):
            self.run_fails(3, [name, "not a regular file"], "verify", name, self.good)
            self.run_fails(3, [name, "not a regular file"], "verify", self.good, "--against", name)
            self.run_fails(3, [name, "not a regular file"], "digest", self.good, "--check", name)
            self.run_fails(3, [name, "not a regular file"], "verify", self.good, "--signature", name, "--key", self.public)
            self.run_fails(3, [name], "verify", self.good, "--signature", self.signature, "--key", name)

    def test_a_folder_that_may_not_be_read(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        locked = write_model(self.dir / "locked")
        for mode, what in ((0o000, locked), (0o000, locked / "model.safetensors")):
            os.chmod(what, mode)
            try:
                for arguments in (("verify", locked, self.good), ("verify", self.good, locked, "--level", "config"), ("digest", locked),
                                  ("fingerprint", locked, "-o", self.dir / "out.json"), ("lineage", locked, "--base", self.good, "--candidates", self.tune)):
                    self.run_fails(3, ["locked"], *arguments)
            finally:
                os.chmod(what, 0o700)


class NaN(Case):
    """Tensors of nothing but NaN are compared by their bits."""

    def model(self, name, bits, dtype="BF16", flip=None):
        sizes = cli_models.shapes()
        extra = {tensor: (dtype, shape, struct.pack("<H", bits) * cli_models.product(shape)) for tensor, shape in sizes.items()}
        if flip is not None:
            data = bytearray(extra["lm_head.weight"][2])
            data[2 * flip] ^= 1
            extra["lm_head.weight"] = (dtype, sizes["lm_head.weight"], bytes(data))
        return write_model(self.dir / name, extra=extra)

    def test_equal_bits_are_equal_and_others_are_not(self):
        a = self.model("a", 0x7FC0)
        for b, same in ((self.model("b", 0x7FC0), True), (self.model("payload", 0x7FC1), False), (self.model("sign", 0xFFC0), False),
                        (self.model("one", 0x7FC0, flip=77), False)):
            for level, verdict in zip(LEVELS[1:], ("SAME_SAMPLE", "IDENTICAL", "IDENTICAL")):
                result = self.run_ok("verify", a, b, "--level", level, "--json", status=0 if same else 1).json()
                self.assertEqual(result["verdict"], verdict if same else "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", (b.name, level))
        result = self.run_ok("verify", a, self.dir / "one", "--level", "tensors", "--json", status=1).json()
        self.assertEqual([tensor["name"] for tensor in result["tensors"]], ["lm_head.weight"])
        self.assertEqual((result["tensors"][0]["changed"], result["tensors"][0]["nan"]), (0, {"a": 1280, "b": 1280}))
        # No number changed, and the table says what did.
        self.assertIn("bits of NaN, or the sign of zero", self.run_ok("verify", a, self.dir / "one", "--level", "tensors", status=1).out)
        result = self.run_ok("verify", a, self.dir / "one", "--first-difference", "--json", status=1).json()
        self.assertEqual(result["tensors"][0]["first_changed"], 77)

    def test_a_cast_keeps_that_it_is_one(self):
        a, b = self.model("bf16", 0x7FC0), self.model("f16", 0x7E00, "F16")
        result = self.run_ok("verify", a, b, "--level", "tensors", "--json").json()
        self.assertEqual(result["verdict"], "EQUAL_AFTER_CAST")

    def test_nan_against_numbers(self):
        a, b = self.model("a", 0x7FC0), write_model(self.dir / "b")
        result = self.run_ok("verify", a, b, "--level", "tensors", "--json", status=1).json()
        for tensor in result["tensors"]:
            self.assertEqual(tensor["changed"], tensor["elements"])
            self.assertEqual(tensor["nan"], {"a": tensor["elements"], "b": 0})
        self.run_fails(3, ["NaN", "nothing could be compared"], "lineage", a, "--base", b, "--candidates", b)


if __name__ == "__main__":
    cli_models.main()
