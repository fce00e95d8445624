"""A GGUF of every kind of blocks, of random bytes with finite scales and written by PyPI's gguf: what `sluice convert --dtype float32`
makes of it is what gguf decodes, bit for bit, rows of Q and K in Hugging Face's order; its root is one at any budget and on any threads."""

import json
import os
import pathlib
import struct
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
from gguf import GGMLQuantizationType as T  # noqa: E402

# Where the f16 scales of a block are.
SCALES_AT = {
    T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2),
    T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,),
}  # fmt: skip
HIDDEN, FFN, VOCAB, HEADS = 512, 1280, 1500, 8
LAYER = "model.layers.0."
MATRICES = [  # GGUF's name, Hugging Face's, rows, columns, whether rows are permuted
    ("token_embd", "model.embed_tokens", VOCAB, HIDDEN, False),
    ("output", "lm_head", VOCAB, HIDDEN, False),
    ("blk.0.attn_q", LAYER + "self_attn.q_proj", HIDDEN, HIDDEN, True),
    ("blk.0.attn_k", LAYER + "self_attn.k_proj", HIDDEN, HIDDEN, True),
    ("blk.0.attn_v", LAYER + "self_attn.v_proj", HIDDEN, HIDDEN, False),
    ("blk.0.attn_output", LAYER + "self_attn.o_proj", HIDDEN, HIDDEN, False),
    ("blk.0.ffn_gate", LAYER + "mlp.gate_proj", FFN, HIDDEN, False),
    ("blk.0.ffn_up", LAYER + "mlp.up_proj", FFN, HIDDEN, False),
    ("blk.0.ffn_down", LAYER + "mlp.down_proj", HIDDEN, FFN, False),
]
NORMS = [("output_norm", "model.norm"), ("blk.0.attn_norm", LAYER + "input_layernorm"), ("blk.0.ffn_norm", LAYER + "post_attention_layernorm")]


def permute(rows):
    """convert_hf_to_gguf.py, LlamaModel.permute."""
    return rows.reshape(HEADS, 2, len(rows) // HEADS // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_model(path, kind, random):
    """Returns the numbers, f32, by Hugging Face's names."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCAB)
    writer.add_quantization_version(2)
    expected = {}
    block, size_bytes = gguf.GGML_QUANT_SIZES[kind]
    for name, hugging_face, rows, columns, permuted in MATRICES:
        blocks = random.integers(0, 256, (rows * columns // block, size_bytes), dtype=np.uint8)
        for place in SCALES_AT[kind]:
            scales = random.integers(0, 0x7C00, len(blocks), dtype=np.uint16) | random.integers(0, 2, len(blocks), dtype=np.uint16) << 15
            blocks[:, place : place + 2] = scales.reshape(-1, 1).view(np.uint8)
        stored = blocks.reshape(rows, -1)
        expected[hugging_face + ".weight"] = gguf.quants.dequantize(stored, kind)
        writer.add_tensor(name + ".weight", np.ascontiguousarray(permute(stored) if permuted else stored), raw_dtype=kind)
    for name, hugging_face in NORMS:
        expected[hugging_face + ".weight"] = random.normal(1, 0.1, HIDDEN).astype(np.float32)
        writer.add_tensor(name + ".weight", expected[hugging_face + ".weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def run(*arguments):
    return subprocess.run([SLUICE, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class Encodings(unittest.TestCase):
    def test_every_kind(self):
        random = np.random.default_rng(1)
        for kind in SCALES_AT:
            with self.subTest(kind.name), tempfile.TemporaryDirectory() as folder:
                model, out = pathlib.Path(folder, "model.gguf"), pathlib.Path(folder, "out.safetensors")
                expected = write_model(model, kind, random)
                roots = {json.loads(run("digest", model, "--json", "--threads", threads, "--max-memory", budget))["root"]
                         for threads, budget in ((1, "64MiB"), (3, "64MiB"), (2, "1GiB"))}
                self.assertEqual(len(roots), 1)
                run("convert", model, "-o", out, "--dtype", "float32", "--max-memory", "64MiB")
                data = out.read_bytes()
                (size,) = struct.unpack("<Q", data[:8])
                header = json.loads(data[8 : 8 + size])
                header.pop("__metadata__", None)
                self.assertEqual(set(header), set(expected))
                for name, values in expected.items():
                    begin, end = header[name]["data_offsets"]
                    self.assertEqual(header[name]["shape"], list(values.shape))
                    self.assertTrue(data[8 + size + begin : 8 + size + end] == values.astype("<f4").tobytes(), name)


if __name__ == "__main__":
    unittest.main()
