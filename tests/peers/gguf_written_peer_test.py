"""What `sluice convert` writes, in the programs that it is for: Q8_0 against PyPI's gguf bit for bit; GGUF files in llama-cpp-python and
folders in transformers, each where it is installed (`make test-peers` fetches neither: they take minutes and gigabytes)."""

import importlib.util
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
peers.enter()

import gguf  # noqa: E402
import numpy as np  # noqa: E402
from safetensors import numpy as safetensors_numpy  # noqa: E402

TEXT = "The capital of France is Paris, and it's 2 1/2 hours from Lyon by train.\n\n\tVoilà: 日本 😀  def f(x): return x"


def installed(module):
    return importlib.util.find_spec(module) is not None


class Written(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temporary.name)
        cls.folder = cls.convert(peers.smollm2_gguf(), "folder", "--dtype", "float32")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def convert(cls, ref, name, *more):
        subprocess.run([SLUICE, "convert", str(ref), "-o", str(cls.dir / name), *more], check=True, stdout=subprocess.DEVNULL)
        return cls.dir / name

    def ids(self, ref):
        return json.loads(subprocess.run([SLUICE, "tokenize", str(ref), "--text", TEXT, "--json"], check=True, capture_output=True).stdout)["ids"]

    def logits(self, ref, ids):
        safetensors_numpy.save_file({"input_ids": np.array([ids], dtype=np.int64)}, self.dir / "ids.safetensors")
        out = self.dir / "logits.safetensors"
        subprocess.run([SLUICE, "logits", str(ref), "--ids", str(self.dir / "ids.safetensors"), "-o", str(out)], check=True, stdout=subprocess.DEVNULL)
        logits = safetensors_numpy.load_file(out)["logits"][0]
        out.unlink()
        return logits

    def test_q8_0_is_that_of_gguf(self):
        original = {tensor.name: tensor for tensor in gguf.GGUFReader(self.convert(self.folder, "f32.gguf")).tensors}
        compared = 0
        for tensor in gguf.GGUFReader(self.convert(self.folder, "q8_0.gguf", "--dtype", "q8_0")).tensors:
            wanted = original[tensor.name]
            self.assertEqual(list(tensor.shape), list(wanted.shape), tensor.name)
            if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
                continue
            self.assertEqual(tensor.tensor_type, gguf.GGMLQuantizationType.Q8_0, tensor.name)
            expected = gguf.quants.quantize(wanted.data, gguf.GGMLQuantizationType.Q8_0)
            self.assertTrue(np.array_equal(np.asarray(tensor.data).reshape(-1), expected.reshape(-1)), tensor.name)
            compared += 1
        self.assertEqual(compared, 211)

    @unittest.skipUnless(installed("llama_cpp"), "llama-cpp-python is not installed")
    def test_llama_cpp_runs_it(self):
        import llama_cpp

        ids = self.ids(self.folder)
        for dtype in ("float32", "float16", "bfloat16", "q8_0"):
            with self.subTest(dtype):
                path = self.convert(self.folder, f"run-{dtype}.gguf", "--dtype", dtype)
                model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=2)
                self.assertEqual(model.tokenize(TEXT.encode(), add_bos=False, special=False), ids)
                self.assertEqual(self.ids(path), ids)
                model.eval(ids)
                theirs, ours = np.array(model.scores[: len(ids)], dtype=np.float64), self.logits(path, ids).astype(np.float64)
                spread = ours.max() - ours.min()
                # llama.cpp rounds activations to f16, bf16 or 8 bits, and its cache to f16.
                error = float(np.abs(theirs - ours).max() / spread)
                self.assertLess(error, 0.05 if dtype == "q8_0" else 0.02)
                self.assertGreater(float((theirs.argmax(1) == ours.argmax(1)).mean()), 0.9)
                print(f"{dtype}: largest difference of logits {error:.5f} of their spread", flush=True)

    @unittest.skipUnless(installed("transformers") and installed("torch"), "transformers is not installed")
    def test_transformers_opens_the_folder(self):
        import torch
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)
        ids = self.ids(self.folder)
        self.assertEqual(tokenizer(TEXT, add_special_tokens=False)["input_ids"], ids)
        self.assertTrue(tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False))
        model = transformers.AutoModelForCausalLM.from_pretrained(self.folder, torch_dtype=torch.float32)
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].numpy().astype(np.float64)
        ours = self.logits(self.folder, ids).astype(np.float64)
        self.assertLess(float(np.abs(theirs - ours).max() / (ours.max() - ours.min())), 1e-3)


if __name__ == "__main__":
    unittest.main()
