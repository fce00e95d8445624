"""A merge of models with different vocabularies, as Yi's fine-tunes have them (tokens added behind the base's 64,000), loaded by Hugging Face's own
packages: tokenizers always, transformers where it is installed (`make test-peers` does not fetch it)."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import warnings

import peers

SLUICE = os.environ.get("SLUICE", str(peers.SOURCE / "build" / "release" / "sluice"))
if not os.access(SLUICE, os.X_OK):
    peers.skip(f"no program at {SLUICE}")
peers.enter()

import numpy as np  # noqa: E402
import tokenizers  # noqa: E402
from safetensors import numpy as safetensors_numpy  # noqa: E402

BASE_TOKENIZER = peers.SOURCE / "tests" / "goldens" / "inference" / "tokenizer" / "hf-sentencepiece.tokenizer.json"
HIDDEN, HEADS = 32, 2
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 48,
          "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "max_position_embeddings": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float32",
          "bos_token_id": 0, "eos_token_id": 1}
ADDED = {"one": ["<|begin|>", "<|end|>"], "two": ["<|end|>", "<tool>", "<|begin|>"]}
TEXT = "<|begin|>Hello, wörld! It's 1234.<|end|> 日本 <tool>"


def tokenizer_with(added):
    tokenizer = tokenizers.Tokenizer.from_file(str(BASE_TOKENIZER))
    tokenizer.add_special_tokens([t for t in added if t.startswith("<|")])
    tokenizer.add_tokens([t for t in added if not t.startswith("<|")])
    return tokenizer


def write_model(folder, added, seed):
    folder.mkdir()
    tokenizer = tokenizer_with(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab = tokenizer.get_vocab_size()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": vocab}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}))
    generator = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (vocab, HIDDEN), "lm_head.weight": (vocab, HIDDEN), "model.norm.weight": (HIDDEN,)}
    layer = "model.layers.0."
    shapes |= {layer + f"self_attn.{p}_proj.weight": (HIDDEN, HIDDEN) for p in "qkvo"}
    shapes |= {layer + "mlp.gate_proj.weight": (48, HIDDEN), layer + "mlp.up_proj.weight": (48, HIDDEN), layer + "mlp.down_proj.weight": (HIDDEN, 48)}
    shapes |= {layer + "input_layernorm.weight": (HIDDEN,), layer + "post_attention_layernorm.weight": (HIDDEN,)}
    tensors = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors_numpy.save_file(tensors, folder / "model.safetensors")
    return tokenizer, tensors


class MergedTokenizer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp())
        cls.models = {name: write_model(cls.dir / name, added, seed) for seed, (name, added) in enumerate({"base": [], **ADDED}.items())}
        (cls.dir / "r.yml").write_text(
            "merge_method: ties\nbase_model: base\nmodels:\n  - {model: one, parameters: {weight: 0.5}}\n"
            "  - {model: two, parameters: {weight: 0.5}}\ntokenizer_source: union\nchat_template: chatml\n")
        cls.merged = cls.dir / "merged"
        subprocess.run([SLUICE, "merge", str(cls.dir / "r.yml"), "-o", str(cls.merged)], check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def test_tokenizers_loads_it_and_every_id_has_its_row(self):
        merged = tokenizers.Tokenizer.from_file(str(self.merged / "tokenizer.json"))
        base, base_tensors = self.models["base"]
        vocab = merged.get_vocab()
        self.assertEqual(len(vocab), base.get_vocab_size() + 3)
        self.assertEqual(sorted(vocab.values()), list(range(len(vocab))))
        for token, id_ in base.get_vocab().items():
            self.assertEqual(vocab[token], id_)
        tensors = safetensors_numpy.load_file(self.merged / "model.safetensors")
        config = json.loads((self.merged / "config.json").read_text())
        self.assertEqual(config["vocab_size"], len(vocab))
        self.assertEqual(tensors["lm_head.weight"].shape[0], len(vocab))
        # The only model that has it gives a token's row to the others and to the base, so nothing differs from it.
        two, two_tensors = self.models["two"]
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            np.testing.assert_array_equal(tensors[name][vocab["<tool>"]], two_tensors[name][two.get_vocab()["<tool>"]])
        self.assertEqual(merged.decode(merged.encode(TEXT).ids, skip_special_tokens=False).replace(" ", ""),
                         two.decode(two.encode(TEXT).ids, skip_special_tokens=False).replace(" ", ""))
        texts = {token: merged.encode(token, add_special_tokens=False).ids for token in ADDED["two"]}
        for token, ids in texts.items():
            self.assertEqual(ids, [vocab[token]])

    def test_sluice_gives_the_same_ids(self):
        done = subprocess.run([SLUICE, "tokenize", str(self.merged), "--text", TEXT, "--parse-special", "--add-special", "--json"], check=True, capture_output=True)
        merged = tokenizers.Tokenizer.from_file(str(self.merged / "tokenizer.json"))
        self.assertEqual(json.loads(done.stdout)["ids"], merged.encode(TEXT).ids)

    @unittest.skipUnless(importlib.util.find_spec("transformers"), "transformers is not installed")
    def test_transformers_loads_it_without_a_warning(self):
        import logging

        import torch
        import transformers

        messages = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())
        transformers.utils.logging.get_logger("transformers").addHandler(handler)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.merged)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(self.merged, output_loading_info=True)
        self.assertEqual(messages + [str(w.message) for w in caught if issubclass(w.category, UserWarning)], [])
        self.assertEqual([value for value in info.values() if value], [])
        self.assertEqual(len(tokenizer), model.get_input_embeddings().weight.shape[0])
        text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
        self.assertEqual(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        ids = tokenizer(text, return_tensors="pt").input_ids
        self.assertTrue(torch.isfinite(model(ids).logits).all())


if __name__ == "__main__":
    unittest.main()
