"""`sluice convert X.gguf --dtype float32` against PyPI's gguf: every tensor of SmolLM2-135M-Instruct bit for bit, rows of Q and K
back in Hugging Face's order, and the config.json that the model was released with."""

import json
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
peers.enter()

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import tokenizers  # noqa: E402

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MODEL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
# SmolLM2-135M-Instruct's own config.json, as far as a GGUF can know it.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


def hugging_face_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{parts[3]}"
    return f"{MODEL_NAMES[parts[0]]}.{parts[1]}"


def undo_permutation(rows, num_heads):
    """The inverse of LlamaModel.permute in llama.cpp's convert_hf_to_gguf.py."""
    shape = rows.shape
    return rows.reshape(num_heads, shape[0] // num_heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def expected_tensors(path):
    reader = gguf.GGUFReader(path)
    heads = {
        "attn_q": int(reader.fields["llama.attention.head_count"].parts[-1][0]),
        "attn_k": int(reader.fields["llama.attention.head_count_kv"].parts[-1][0]),
    }
    for tensor in reader.tensors:
        shape = [int(d) for d in reversed(tensor.shape)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        part = tensor.name.split(".")[-2]
        yield hugging_face_name(tensor.name), undo_permutation(values, heads[part]) if part in heads else values


def read_safetensors(path):
    """name -> array; only F32 is due here."""
    raw = path.read_bytes()
    header_bytes = int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, info in json.loads(raw[8 : 8 + header_bytes]).items():
        if name == "__metadata__":
            continue
        assert info["dtype"] == "F32", (name, info)
        begin, end = info["data_offsets"]
        data = np.frombuffer(raw, "<u4", (end - begin) // 4, 8 + header_bytes + begin)
        tensors[name] = data.reshape(info["shape"])
    return tensors


class GgufPeer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name) / "out"
        cls.model = peers.smollm2_gguf()
        command = [SLUICE, "convert", str(cls.model), "--dtype", "float32", "-o", str(cls.out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_every_tensor_is_bit_equal(self):
        ours = {}
        for path in sorted(self.out.glob("*.safetensors")):
            ours.update(read_safetensors(path))
        num_elements = 0
        for name, values in expected_tensors(self.model):
            self.assertIn(name, ours)
            mine = ours.pop(name)
            self.assertEqual(mine.shape, values.shape, name)
            differ = int(np.count_nonzero(mine != values.view(np.uint32)))
            self.assertEqual(differ, 0, f"{name}: {differ} of {values.size} numbers differ")
            num_elements += values.size
        self.assertEqual(sorted(ours), [], "tensors that PyPI's gguf does not see")
        self.assertEqual(num_elements, 134_515_008)

    def test_the_tokenizer_is_one_that_hugging_face_reads(self):
        theirs = tokenizers.Tokenizer.from_file(str(self.out / "tokenizer.json"))
        text = (peers.SOURCE / "docs" / "streaming.md").read_text(encoding="utf-8") + "\n<|im_start|>user\n1234 \u00e9\u4f60 \U0001f600  \t end"
        for more in ([], ["--parse-special"]):
            command = [SLUICE, "tokenize", str(self.model), "--text", text, "--json", *more]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["ids"]
            theirs.encode_special_tokens = not more  # as text
            self.assertEqual(ours, theirs.encode(text, add_special_tokens=False).ids)
        config = json.loads((self.out / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.assertIn("<|im_start|>", config["chat_template"])
        self.assertEqual((config["bos_token"], config["eos_token"]), ("<|im_start|>", "<|im_end|>"))

    def test_the_config_is_the_models_own(self):
        config = json.loads((self.out / "config.json").read_text(encoding="utf-8"))
        for key, value in CONFIG.items():
            self.assertEqual(config.get(key), value, key)


if __name__ == "__main__":
    sys.exit(unittest.main())
