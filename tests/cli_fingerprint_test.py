"""fingerprint, verify --level fingerprint and --against, and how auto escalates."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

import budgets
import cli_models
import fingerprint_file
from cli_models import CONFIG, Case, bf16, decode_bf16, f32
from cli_models import read_safetensors, recipe_text, write_gguf, write_model, write_safetensors

VOCAB, HIDDEN = 16384, 256
NONCE = "00112233445566778899aabbccddeeff"
# Of about 4,000 blocks 90 are drawn.
AIM = ("--detect", "0.05", "--nonce", NONCE)
HIGH_BYTES = bytes((byte & 0x83) | 0x3C for byte in range(256))  # a bfloat16 between 0.007 and 2, either sign


def bf16_noise(seed, count):
    data = bytearray(random.Random(seed).randbytes(2 * count))
    data[1::2] = data[1::2].translate(HIGH_BYTES)
    return bytes(data)


def large_tensors(seed=1):
    return {name: ("BF16", shape, bf16_noise(f"{seed} {name}", cli_models.product(shape)))
            for name, shape in cli_models.shapes(vocab=VOCAB, hidden=HIDDEN).items()}


def write_large(folder, tensors, shards=1, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        part = names[shard * len(names) // shards:(shard + 1) * len(names) // shards]
        write_safetensors(folder / file, {name: tensors[name] for name in part})
        weight_map.update({name: file for name in part})
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(dict(CONFIG, vocab_size=VOCAB, hidden_size=HIDDEN, **(config or {}))))
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}')
    return folder


def drawn_of(tensors, detect=0.05, nonce=NONCE):
    return fingerprint_file.draw(nonce, {name: cli_models.product(shape) for name, (_, shape, _) in tensors.items()}, detect)


def with_a_bit_changed(tensors, name, element):
    dtype, shape, data = tensors[name]
    at = 2 * element
    return dict(tensors, **{name: (dtype, shape, data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])})


class Fingerprint(Case):
    def verdict(self, status, verdict, *arguments):
        result = self.run_ok("verify", *arguments, "--json", status=status).json()
        self.assertEqual(result["verdict"], verdict, result)
        text = self.run_ok("verify", *arguments, status=status).out
        self.assertTrue(text.startswith(verdict + " "), text)
        for line in text.splitlines():
            self.assertNotIn("nan", line.lower().replace("nonce", ""), line)
        return result

    def test_seven_shards_and_fifteen_are_the_same(self):
        tensors = large_tensors()
        a, b = write_large(self.dir / "a", tensors, 7), write_large(self.dir / "b", dict(reversed(tensors.items())), 15)
        result = self.verdict(0, "SAME_SAMPLE", a, b, "--level", "fingerprint", *AIM)
        self.assertEqual(result["level"], "fingerprint")
        self.assertEqual(result["tensors"], [])
        told = result["fingerprint"]
        drawn = drawn_of(tensors)
        self.assertEqual(told["nonce"], NONCE)
        self.assertEqual(told["draws"], 90)
        self.assertEqual(told["blocks"], sum(map(len, drawn.values())))
        self.assertEqual(told["all_blocks"], sum(-(-len(data) // 4096) for _, _, data in tensors.values()))
        self.assertEqual((told["detectable_fraction"], told["confidence"]), (0.05, 0.99))
        self.assertEqual(told["identical"], told["blocks"])
        # Both sides' blocks and nothing else.
        read = sum(min(4096, len(tensors[name][2]) - 4096 * block) for name, blocks in drawn.items() for block in blocks)
        self.assertEqual(told["bytes_read"], 2 * read)
        self.assertEqual(result["bytes_read"], 2 * read)
        for words in ("had 5% of them been different", "99% at least"):
            self.assertIn(words, result["proves"])
        self.assertIn("not drawn", result["does_not_prove"])
        # By default nothing less than every byte is called identical; the sample was looked at on the way.
        result = self.verdict(0, "IDENTICAL", a, b, *AIM)
        self.assertEqual(result["level"], "tensors")
        self.assertEqual(result["fingerprint"]["changed"], 0)
        self.assertEqual(result["bytes_read"], 2 * read + 2 * sum(len(data) for _, _, data in tensors.values()))
        # The nonce is another each time.
        nonces = {self.run_ok("verify", a, b, "--level", "fingerprint", "--detect", "0.5", "--json").json()["fingerprint"]["nonce"]
                  for _ in range(3)}
        self.assertEqual(len(nonces), 3)

    def test_one_bit_of_a_drawn_block_is_found_and_of_another_is_not(self):
        tensors = large_tensors()
        name = "model.embed_tokens.weight"
        drawn = drawn_of(tensors)[name]
        block = drawn[len(drawn) // 2]
        a = write_large(self.dir / "a", tensors, 3)
        b = write_large(self.dir / "b", with_a_bit_changed(tensors, name, 2048 * block + 2047))
        f = self.dir / "f.json"
        self.run_ok("fingerprint", a, "-o", f, *AIM)
        for arguments in ((a, b, "--level", "fingerprint", *AIM), (a, b, *AIM), (b, "--against", f)):
            result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", *arguments)
            self.assertEqual(result["level"], "fingerprint")  # auto ends there
            self.assertEqual([(t["name"], t["class"]) for t in result["tensors"]], [(name, "changed")])
            (found,) = result["fingerprint"]["tensors"]
            self.assertEqual((found["name"], found["differing"], found["first_element"]), (name, 1, 2048 * block))
            self.assertIn("--level tensors", result["does_not_prove"])
        undrawn = next(i for i in range(1000) if i not in drawn)
        c = write_large(self.dir / "c", with_a_bit_changed(tensors, name, 2048 * undrawn))
        self.verdict(0, "SAME_SAMPLE", a, c, "--level", "fingerprint", *AIM)
        self.verdict(0, "SAME_SAMPLE", c, "--against", f)
        self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, c, *AIM)  # auto reads on

    def test_a_fingerprint_is_what_the_docs_say(self):
        tensors = large_tensors()
        tensors["model.extra.ids"] = ("I64", [5], bytes(range(40)))
        tensors["model.extra.none"] = ("F32", [0], b"")
        model = write_large(self.dir / "model", tensors, 7)
        f = self.dir / "deep" / "f.json"
        result = self.run_ok("fingerprint", model, "-o", f, *AIM, "--json").json()
        self.assertEqual(result["schema"], "sluice/fingerprint/v1")
        for key in ("nonce", "blocks", "detectable_fraction", "confidence", "bytes_read", "statistics", "memory", "seconds"):
            self.assertIn(key, result)
        file = fingerprint_file.File(f)
        self.assertEqual(file.json["nonce"], NONCE)
        self.assertIn("had not seen", file.json["about"])
        self.assertEqual(list(file.tensors), sorted(tensors))
        drawn = drawn_of(tensors)
        for name, (stored, values, sums) in file.tensors.items():
            dtype, _, data = tensors[name]
            size = 4096 if dtype == "BF16" else 2048 * 8
            self.assertEqual(len(stored), len(drawn[name]), name)
            for i, block in enumerate(drawn[name]):
                part = data[block * size:(block + 1) * size]
                self.assertEqual(stored[i], fingerprint_file.sha(part).hex(), name)
                if dtype != "BF16":
                    self.assertEqual((values, sums), ([], None))
                    continue
                hashed, moments = fingerprint_file.print_of(decode_bf16(part))
                self.assertEqual(values[i], hashed.hex(), name)
                self.assertEqual(sums[i], moments, name)
        self.assertEqual(result["blocks"], sum(map(len, drawn.values())))

    def test_statistics_are_of_decoded_values(self):
        a = write_model(self.dir / "a", vocab=2000)
        b = write_model(self.dir / "b", vocab=2000, update_seed=4)
        result = self.run_ok("verify", a, b, "--level", "fingerprint", "--json", status=1).json()["fingerprint"]
        self.assertEqual(result["blocks"], result["all_blocks"])  # few enough that all are looked at: exact
        parts = {row["part"]: row for row in result["statistics"]}
        self.assertEqual(set(parts), {"embedding", "attention", "mlp", "norms", "head", "all"})
        values = [decode_bf16(data) for _, _, data in read_safetensors(a / "model.safetensors").values()]
        others = [decode_bf16(data) for _, _, data in read_safetensors(b / "model.safetensors").values()]
        flat, other = [v for tensor in values for v in tensor], [v for tensor in others for v in tensor]
        mean = sum(flat) / len(flat)
        self.assertAlmostEqual(parts["all"]["a"]["mean"]["value"], mean, delta=1e-12)
        self.assertEqual(parts["all"]["a"]["mean"]["margin"], 0)
        std = (sum((v - mean) ** 2 for v in flat) / len(flat)) ** 0.5
        self.assertAlmostEqual(parts["all"]["a"]["std"]["value"], std, delta=1e-9)
        distance = (sum((v - w) ** 2 for v, w in zip(flat, other)) / sum(v * v for v in flat)) ** 0.5
        self.assertAlmostEqual(parts["all"]["relative_l2"]["value"], distance, delta=1e-9)
        self.assertEqual((parts["all"]["a"]["least"], parts["all"]["a"]["most"]), (min(flat), max(flat)))
        self.assertEqual(parts["all"]["differing"], result["changed"])
        # A sample is near, says how near, and never claims exactness.
        large = write_large(self.dir / "c", large_tensors())
        row = self.run_ok("fingerprint", large, "-o", self.dir / "f.json", *AIM, "--json").json()["statistics"][-1]
        self.assertGreater(row["a"]["mean"]["margin"], 0)
        self.assertGreater(row["beyond_extremes_at_most"], 0)

    def test_encodings(self):
        exact, rounded = write_model(self.dir / "f32", dtype="F32"), write_model(self.dir / "bf16")
        self.run_ok("convert", rounded, "-o", self.dir / "wide", "--dtype", "float32")
        result = self.verdict(0, "SAME_SAMPLE", rounded, self.dir / "wide", "--level", "fingerprint")
        self.assertEqual(result["fingerprint"]["equal_after_cast"], result["fingerprint"]["blocks"])
        result = self.verdict(5, "UNDECIDED", exact, rounded, "--level", "fingerprint")
        self.assertEqual(result["fingerprint"]["rounded_side"], "b")
        self.assertIn("--level tensors", result["does_not_prove"])
        # What only every byte can say is said after every byte.
        self.verdict(1, "ROUNDED", exact, rounded)
        self.run_ok("fingerprint", rounded, "-o", self.dir / "f.json")
        self.verdict(0, "SAME_SAMPLE", rounded, "--against", self.dir / "f.json")
        self.verdict(0, "SAME_SAMPLE", self.dir / "wide", "--against", self.dir / "f.json")
        result = self.verdict(5, "UNDECIDED", exact, "--against", self.dir / "f.json")
        self.assertGreater(result["fingerprint"]["unknown"], 0)
        # Another model in another encoding is no rounding of this one: sums tell.
        other = write_model(self.dir / "other", seed=2, dtype="F32")
        self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", other, "--against", self.dir / "f.json")

    def test_containers_and_recipes(self):
        model = write_model(self.dir / "model", dtype="F32", tokenizer=False)
        gguf = write_gguf(self.dir / "x.gguf", quantised=False, tokens=False)
        self.run_ok("fingerprint", gguf, "-o", self.dir / "g.json", *AIM)
        self.run_ok("fingerprint", model, "-o", self.dir / "m.json", *AIM)
        g, m = (fingerprint_file.File(self.dir / name).tensors for name in ("g.json", "m.json"))
        self.assertEqual(g, m)  # names, shapes and the rows of Q and K
        for f in ("g.json", "m.json"):
            told = cli_models.sluice("verify", gguf, "--against", self.dir / f, "--json").json()
            self.assertEqual(told["fingerprint"]["changed"], 0)
        write_model(self.dir / "tune", update_seed=3, dtype="F32", tokenizer=False)
        recipe = self.dir / "r.yml"
        recipe.write_text(recipe_text("ties", "model", [("tune", {"weight": 1, "density": 0.5})], dtype="float32"))
        self.run_ok("merge", recipe, "-o", self.dir / "merged")
        self.run_ok("fingerprint", recipe, "-o", self.dir / "r.json", "--nonce", NONCE)
        self.verdict(0, "SAME_SAMPLE", self.dir / "merged", "--against", self.dir / "r.json")
        self.verdict(0, "SAME_SAMPLE", self.dir / "merged", recipe, "--level", "fingerprint")

    def test_drawn_blocks_of_a_recipe_are_computed_alone(self):
        write_large(self.dir / "a", large_tensors())
        write_large(self.dir / "b", large_tensors(2), 3)
        recipe = self.dir / "r.yml"
        recipe.write_text(recipe_text("linear", None, [("a", {"weight": 0.7}), ("b", {"weight": 0.3})], dtype="float16"))
        merged = self.dir / "merged"
        self.run_ok("merge", recipe, "-o", merged)
        told = self.run_ok("fingerprint", recipe, "-o", self.dir / "r.json", *AIM, "--json").json()
        self.run_ok("fingerprint", merged, "-o", self.dir / "m.json", *AIM)
        r, m = (fingerprint_file.File(self.dir / name).tensors for name in ("r.json", "m.json"))
        self.assertEqual(r, m)
        self.assertLess(told["bytes_read"], 2 * told["blocks"] * 4096 + 1)  # of two parents in bf16
        self.verdict(0, "SAME_SAMPLE", merged, "--against", self.dir / "r.json")

    def test_config_and_shapes_count(self):
        a = write_model(self.dir / "a")
        f = self.dir / "f.json"
        self.run_ok("fingerprint", a, "-o", f)
        cases = [({"config": {"rope_theta": 5e6}}, "rope"), ({"vocab": 41}, "vocab_size"),
                 ({"config": {"eos_token_id": 7}}, "eos_token_id")]
        for index, (how, key) in enumerate(cases):
            b = write_model(self.dir / f"b{index}", **how)
            for arguments in ((b, "--against", f), (a, b, "--level", "fingerprint")):
                result = self.verdict(1, "DIFFERENT_ARCHITECTURE", *arguments)
                self.assertTrue(any(key in difference["key"] for difference in result["config"]["keys"]), result["config"])
        b = write_model(self.dir / "other", tokenizer=False)
        self.verdict(1, "DIFFERENT_ARCHITECTURE", b, "--against", f)
        self.verdict(1, "DIFFERENT_ARCHITECTURE", a, b, "--level", "fingerprint")
        # A file without a config leaves open what it is.
        write_safetensors(self.dir / "alone.safetensors", read_safetensors(a / "model.safetensors"))
        self.verdict(5, "UNDECIDED", self.dir / "alone.safetensors", "--against", f)

    def test_a_stored_copy_of_the_embedding(self):
        tied = {"tie_word_embeddings": True}
        values = cli_models.values_of(1)["model.embed_tokens.weight"]
        head = lambda numbers: {"lm_head.weight": ("BF16", [cli_models.VOCAB, cli_models.HIDDEN], bf16(numbers))}
        without = write_model(self.dir / "without", drop=["lm_head.weight"], config=tied)
        copy = write_model(self.dir / "copy", drop=["lm_head.weight"], config=tied, extra=head(values))
        own = write_model(self.dir / "own", config=tied)
        for first, second, status, verdict in ((without, copy, 0, "SAME_SAMPLE"), (copy, without, 0, "SAME_SAMPLE"),
                                               (without, own, 1, "DIFFERENT_ARCHITECTURE"),
                                               (own, without, 1, "DIFFERENT_ARCHITECTURE")):
            self.verdict(status, verdict, first, second, "--level", "fingerprint")
            f = self.dir / f"{first.name}.json"
            self.run_ok("fingerprint", first, "-o", f)
            self.verdict(status, verdict, second, "--against", f)

    def test_nan_compare_by_bits(self):
        count = cli_models.product(cli_models.shapes()["lm_head.weight"])
        sick = {"lm_head.weight": ("BF16", cli_models.shapes()["lm_head.weight"], b"\xc0\x7f" * count)}
        a, b = write_model(self.dir / "a", extra=sick), write_model(self.dir / "b", extra=sick, shards=2)
        result = self.verdict(0, "SAME_SAMPLE", a, b, "--level", "fingerprint")
        row = next(row for row in result["fingerprint"]["statistics"] if row["part"] == "head")
        self.assertEqual(row["a"]["nan"], count)
        sick["lm_head.weight"] = ("BF16", sick["lm_head.weight"][1], b"\xc1\x7f" + b"\xc0\x7f" * (count - 1))
        c = write_model(self.dir / "c", extra=sick)
        self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, c, "--level", "fingerprint")

    def test_the_same_at_any_thread_count_and_budget(self):
        a, b = write_large(self.dir / "a", large_tensors()), write_large(self.dir / "b", large_tensors(2), 5)
        first = None
        for more in ((), ("--threads", "1"), ("--threads", "4"), ("--max-memory", budgets.mebibytes(64))):
            result = self.run_ok("verify", a, b, "--json", "--level", "fingerprint", *AIM, *more, status=1).json()
            self.run_ok("fingerprint", a, "-o", self.dir / "f.json", *AIM, *more)
            told = (result["verdict"], result["fingerprint"], (self.dir / "f.json").read_text())
            first = first or told
            self.assertEqual(told, first)
        self.assertLess(result["memory"]["peak"], result["memory"]["budget"])

    def test_bad_requests(self):
        a = write_model(self.dir / "a")
        f = self.dir / "f.json"
        for nonce in ("12", "zz112233445566778899aabbccddeeff", NONCE + "0"):
            self.run_fails(2, ["hexadecimal"], "fingerprint", a, "-o", f, "--nonce", nonce)
            self.run_fails(2, ["hexadecimal"], "verify", a, a, "--level", "fingerprint", "--nonce", nonce)
        for option in ("--detect", "--confidence"):
            for value in ("0", "1", "-1", "nan"):
                self.run_fails(2, [option[2:]], "fingerprint", a, "-o", f, f"{option}={value}")
                self.run_fails(2, [option[2:]], "verify", a, a, f"{option}={value}")
        self.assertFalse(f.exists())
        self.run_ok("fingerprint", a, "-o", f)
        self.run_fails(2, ["one model"], "verify", a, a, "--against", f)
        self.run_fails(2, ["level"], "verify", a, "--against", f, "--level", "tensors")
        self.run_fails(2, ["--nonce"], "verify", a, "--against", f, "--nonce", NONCE)
        self.run_fails(2, ["--nonce"], "verify", a, a, "--level", "tensors", "--nonce", NONCE)
        self.run_fails(2, ["compares two models"], "verify", a, "--level", "fingerprint")
        for more in (("--atol", "1"), ("--rtol", "1"), ("--first-difference",)):
            self.run_fails(2, ["every element"], "verify", a, a, "--level", "fingerprint", *more)
        self.run_fails(2, ["use --level fingerprint"], "verify", a, a, "--level", "behaviour", "--detect", "0.1")
        self.run_fails(6, ["f.json"], "fingerprint", a, "-o", "/proc/f.json")

    def test_files_that_are_no_fingerprint(self):
        a = write_model(self.dir / "a")
        f = self.dir / "f.json"
        self.run_ok("fingerprint", a, "-o", f, "--nonce", NONCE)
        good = f.read_text()
        bad = self.dir / "bad.json"
        self.run_fails(3, ["none.json"], "verify", a, "--against", self.dir / "none.json")
        self.run_ok("digest", a, "-o", bad)
        self.run_fails(3, ["bad.json", "no fingerprint"], "verify", a, "--against", bad)
        for text in ("", "null", good[:1000], good[:-20]):
            bad.write_text(text)
            self.run_fails(3, ["bad.json"], "verify", a, "--against", bad)
        bad.write_text(good.replace(NONCE, NONCE[::-1]))
        self.run_fails(3, ["bad.json", "changed after it was made", "header"], "verify", a, "--against", bad)
        entry = json.loads(good)["tensors"][3]
        bad.write_text(good.replace(entry["stored"], "0" * len(entry["stored"])))
        self.run_fails(3, ["changed after it was made", entry["name"]], "verify", a, "--against", bad)

    def test_dry_run_reads_and_writes_nothing(self):
        a = write_model(self.dir / "a")
        f = self.dir / "f.json"
        self.assertTrue(self.run_ok("fingerprint", a, "-o", f, "--dry-run", "--json").json()["dry_run"])
        self.assertFalse(f.exists())
        self.assertTrue(self.run_ok("verify", a, a, "--level", "fingerprint", "--dry-run", "--json").json()["dry_run"])

    def test_one_path_is_said_and_compared(self):
        a = write_model(self.dir / "a")
        for level in ("config", "fingerprint", "tensors", "auto"):
            self.assertIn("one path", self.run_ok("verify", a, self.dir / "." / "a", "--level", level).err)

    def test_auto_samples_only_what_is_large(self):
        a, b = write_model(self.dir / "a"), write_model(self.dir / "b", update_seed=2)
        result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", a, b)
        self.assertEqual(result["level"], "tensors")
        self.assertNotIn("fingerprint", result)
        c, d = write_large(self.dir / "c", large_tensors()), write_large(self.dir / "d", large_tensors(2))
        # A tolerance, and the first difference, are questions about every element.
        for more in (("--atol", "1"), ("--first-difference",)):
            self.assertEqual(self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", c, d, *AIM, *more)["level"], "tensors")
        result = self.verdict(1, "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS", c, d, *AIM)
        self.assertEqual(result["level"], "fingerprint")
        self.assertEqual(len(result["tensors"]), len(cli_models.shapes()))

    def test_a_file_that_changes_while_it_is_read(self):
        model = cli_models.write_sparse_model(self.dir / "sparse", 2)
        file = model / "model.safetensors"
        process = subprocess.Popen([cli_models.SLUICE, "verify", model, model, "--level", "tensors", "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        fds = pathlib.Path(f"/proc/{process.pid}/fd")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(os.path.realpath(fd) == str(file.resolve()) for fd in fds.iterdir()):
            time.sleep(0.005)
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        os.utime(file, ns=(1, 1))
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=cli_models.TIMEOUT_SECONDS)
        self.assertEqual(process.returncode, 3, out + err)
        self.assertIn("has changed while it was read", json.loads(out)["message"])


if __name__ == "__main__":
    cli_models.main()
