"""Merges that are killed at random moments and gone on with: one root in the end; and what users are told meanwhile."""

import json
import os
import random
import re
import signal
import subprocess
import time

import cli_models
from cli_models import Case, recipe_text, write_safetensors

KILLS = 50


def write_parent(folder, seed):
    """24 tensors of 1 MiB and a few small ones, BF16 of about 0.01."""
    rng = random.Random(seed)
    folder.mkdir()
    tensors = {}
    for i in range(24):
        data = bytearray(rng.randbytes(1 << 20))
        data[1::2] = bytes(0x3C | (byte & 0x80) for byte in data[1::2])
        tensors[f"layers.{i}.weight"] = ("BF16", [512, 1024], bytes(data))
        tensors[f"layers.{i}.norm"] = ("BF16", [8], bytes(16))
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Unknown"], "model_type": "unknown"}))


class Kills(Case):
    def setUp(self):
        super().setUp()
        for i, name in enumerate(["base", "a", "b"]):
            write_parent(self.dir / name, i)
        self.recipe = self.dir / "r.yml"
        models = [("a", {"weight": 0.5, "density": 0.4}), ("b", {"weight": 0.3, "density": 0.6})]
        self.recipe.write_text(recipe_text("ties", "base", models))
        self.out = self.dir / "out"

    def files(self, folder):
        return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}

    def start(self, *more):
        arguments = ["merge", str(self.recipe), "-o", str(self.out), "--out-shard-size", "9MB", "--threads", "2", "--json"]
        return subprocess.Popen([cli_models.SLUICE, *arguments, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def finish(self, process):
        out, err = process.communicate(timeout=cli_models.TIMEOUT_SECONDS)
        return cli_models.Result(subprocess.CompletedProcess([], process.returncode, out, err))

    def test_fifty_kills_at_random_moments_make_the_same_merge(self):
        begun = time.monotonic()
        result = self.finish(self.start())
        whole_seconds = time.monotonic() - begun
        self.assertEqual(result.status, 0, result)
        root, expected = result.json()["root"], self.files(self.out)
        cli_models.shutil.rmtree(self.out)

        rng = random.Random(7)
        kills = resumed = merges = 0
        while True:
            process = self.start("--resume")
            if kills < KILLS:
                time.sleep(rng.uniform(0.02, 1.1) * whole_seconds)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            result = self.finish(process)
            resumed += re.search(r"note: [1-9]\d* of 48 tensors", result.err) is not None
            self.assertIn(result.status, (0, -signal.SIGKILL), result)
            if result.status == 0:
                self.assertEqual(result.json()["root"], root)
            if not self.out.exists():
                continue
            # Under its name it is whole, and a journal that the kill left there goes with the next run.
            files = self.files(self.out)
            if files.pop(".sluice-journal", None) is None:
                merges += 1
                cli_models.shutil.rmtree(self.out)
            self.assertEqual(files, expected)
            if kills == KILLS and not self.out.exists():
                break
        self.assertEqual([name for name in os.listdir(self.dir) if "sluice" in name], [])
        self.assertGreater(resumed, 3, (kills, merges, whole_seconds))
        print(f"{kills} kills, {merges} merges done, {resumed} runs went on with finished tensors")

    def test_a_disk_that_takes_no_such_files_is_6(self):
        def limit():
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

        arguments = ["merge", self.recipe, "-o", self.out, "--out-shard-size", "9MB"]
        done = subprocess.run([cli_models.SLUICE, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, preexec_fn=limit, timeout=cli_models.TIMEOUT_SECONDS)
        self.assertEqual(done.returncode, 6, done.stderr)
        self.assertFalse(self.out.exists())
        self.run_ok(*arguments, "--resume")


if __name__ == "__main__":
    cli_models.main()
