#!/usr/bin/env python3
"""Makes the files beside it, with PyPI's gguf 0.17.1 and numpy 1.26.4 (Python 3.11): `python make.py`, deterministic.

    q4_0.blocks, q4_0.f32, ...   random blocks of an encoding and what gguf.quants.dequantize makes of them, f32
    tiny_llama.gguf              a one-layer model by gguf.GGUFWriter, Q and K permuted as llama.cpp's converter does it
    tiny_llama.f32               its tensors of Hugging Face's names, in the order of TENSORS below, dequantised, f32

Scales are finite f16 of every kind: zero, subnormal, large, both signs.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

HERE = pathlib.Path(__file__).resolve().parent
NUM_BLOCKS = 24
HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, LAYERS = 32, 32, 4, 2, 8, 5, 1


def scales(random, count):
    bits = random.integers(0, 0x7C00, count, dtype=np.uint16)  # finite, not negative
    bits[:6] = [0x0000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x3C00]
    bits[::3] |= 0x8000
    return bits.view(np.float16)


def blocks_of(random, kind, count):
    num_scales, num_bytes = {T.Q4_0: (1, 16), T.Q4_1: (2, 16), T.Q8_0: (1, 32)}[kind]
    parts = [scales(random, count).reshape(count, 1).view(np.uint8) for _ in range(num_scales)]
    if num_scales == 2:
        random.shuffle(parts[1])
    parts.append(random.integers(0, 256, (count, num_bytes), dtype=np.uint8))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


# Where the f16 scales of a block lie, for kinds that gguf reads but does not write; the rest is any bytes.
SCALES_AT = {
    T.Q5_0: (0,),
    T.Q5_1: (0, 2),
    T.Q2_K: (80, 82),
    T.Q3_K: (108,),
    T.Q4_K: (0, 2),
    T.Q5_K: (0, 2),
    T.Q6_K: (208,),
    T.IQ4_NL: (0,),
    T.IQ4_XS: (0,),
}


def make_random_blocks():
    random = np.random.default_rng(3)
    for kind, places in SCALES_AT.items():
        num_elements, num_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (NUM_BLOCKS, num_bytes), dtype=np.uint8)
        for place in places:
            halves = scales(random, NUM_BLOCKS)
            random.shuffle(halves)
            blocks[:, place : place + 2] = halves.reshape(NUM_BLOCKS, 1).view(np.uint8)
        # All bits off, all bits on.
        for block, byte in ((0, 0x00), (1, 0xFF)):
            keep = [blocks[block, place : place + 2].copy() for place in places]
            blocks[block] = byte
            for place, half in zip(places, keep):
                blocks[block, place : place + 2] = half
        values = gguf.quants.dequantize(blocks, kind)
        assert values.dtype == np.float32 and values.shape == (NUM_BLOCKS, num_elements) and np.isfinite(values).all()
        (HERE / f"{kind.name.lower()}.blocks").write_bytes(blocks.tobytes())
        (HERE / f"{kind.name.lower()}.f32").write_bytes(values.astype("<f4").tobytes())


def make_blocks():
    random = np.random.default_rng(1)
    for kind in (T.Q4_0, T.Q4_1, T.Q8_0):
        blocks = blocks_of(random, kind, NUM_BLOCKS)
        values = gguf.quants.dequantize(blocks, kind)
        assert values.dtype == np.float32 and np.isfinite(values).all()
        (HERE / f"{kind.name.lower()}.blocks").write_bytes(blocks.tobytes())
        (HERE / f"{kind.name.lower()}.f32").write_bytes(values.astype("<f4").tobytes())


def permute(rows, num_heads):
    """convert_hf_to_gguf.py, LlamaModel.permute."""
    shape = rows.shape
    return rows.reshape(num_heads, 2, shape[0] // num_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


# GGUF name, heads to permute by (0: none), shape, type.
TENSORS = [
    ("token_embd.weight", 0, (VOCAB, HIDDEN), T.Q8_0),
    ("output.weight", 0, (VOCAB, HIDDEN), T.F16),
    ("output_norm.weight", 0, (HIDDEN,), T.F32),
]
for layer in range(LAYERS):
    TENSORS += [
        (f"blk.{layer}.attn_norm.weight", 0, (HIDDEN,), T.F32),
        (f"blk.{layer}.attn_q.weight", HEADS, (HEADS * HEAD_DIM, HIDDEN), T.Q4_1),
        (f"blk.{layer}.attn_q.bias", HEADS, (HEADS * HEAD_DIM,), T.F32),
        (f"blk.{layer}.attn_k.weight", KV_HEADS, (KV_HEADS * HEAD_DIM, HIDDEN), T.Q4_0),
        (f"blk.{layer}.attn_k.bias", KV_HEADS, (KV_HEADS * HEAD_DIM,), T.F16),
        (f"blk.{layer}.attn_v.weight", 0, (KV_HEADS * HEAD_DIM, HIDDEN), T.F16),
        (f"blk.{layer}.attn_v.bias", 0, (KV_HEADS * HEAD_DIM,), T.F32),
        (f"blk.{layer}.attn_output.weight", 0, (HIDDEN, HEADS * HEAD_DIM), T.Q4_1),
        (f"blk.{layer}.attn_output.bias", 0, (HIDDEN,), T.F32),
        (f"blk.{layer}.ffn_norm.weight", 0, (HIDDEN,), T.F32),
        (f"blk.{layer}.ffn_gate.weight", 0, (FFN, HIDDEN), T.Q4_1),
        (f"blk.{layer}.ffn_up.weight", 0, (FFN, HIDDEN), T.Q4_1),
        (f"blk.{layer}.ffn_down.weight", 0, (HIDDEN, FFN), T.Q4_1),
    ]


def make_model():
    random = np.random.default_rng(2)
    writer = gguf.GGUFWriter(HERE / "tiny_llama.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(3)
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "ab", "<s>", "\u00e9"])
    writer.add_token_types([1, 1, 1, 3, 1])
    writer.add_token_scores([0.0, -1.0, -2.5, 0.0, 1e-3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(3)
    writer.add_eos_token_id(4)
    expected = []
    for name, heads, shape, kind in TENSORS:
        values = random.normal(0, 0.05, shape).astype(np.float32)
        # What is stored, in Hugging Face's row order; quantisation goes by rows, so it commutes with their order.
        stored = gguf.quants.quantize(values, kind)
        expected.append(gguf.quants.dequantize(stored, kind).astype("<f4").reshape(shape))
        written = permute(stored, heads) if heads else stored
        writer.add_tensor(name, np.ascontiguousarray(written), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (HERE / "tiny_llama.f32").write_bytes(b"".join(e.tobytes() for e in expected))


if __name__ == "__main__":
    make_blocks()
    make_random_blocks()
    make_model()
