#!/usr/bin/env python3
"""Makes the seeds in tests/corpus/gguf and tests/corpus/gguf_checkpoint (standard library only, deterministic): right files, and
one file for each kind of malformed one. src/formats/gguf_test.cc has the exact error of each attack."""

import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
HUGE = 2**64 - 1


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value_bytes(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value_bytes(kind, value)


def array(name, kind, values, count=None):
    head = struct.pack("<IQ", kind, len(values) if count is None else count)
    return text(name) + struct.pack("<I", ARRAY) + head + b"".join(value_bytes(kind, v) for v in values)


def raw_key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def gguf(keys=(), tensors=(), *, magic=b"GGUF", version=3, align=32, counts=None):
    """tensors: (name, dims, type, data[, offset])."""
    infos = data = b""
    for name, dims, kind, payload, *offset in tensors:
        data += bytes(-len(data) % align)
        infos += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        infos += struct.pack("<IQ", kind, offset[0] if offset else len(data))
        data += payload
    num_tensors, num_keys = counts or (len(tensors), len(keys))
    out = magic + struct.pack("<IQQ", version, num_tensors, num_keys) + b"".join(keys) + infos
    return out + bytes(-len(out) % align) + data + bytes(-len(data) % align)


def row(count=8):
    return struct.pack(f"<{count}f", *range(count))


def llama(extra=(), drop=(), tensors=None, hidden=32, heads=4, kv=2, ffn=32, vocab=3, layers=1):
    keys = {
        "general.architecture": key("general.architecture", STRING, "llama"),
        "llama.attention.layer_norm_rms_epsilon": key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        "llama.rope.freq_base": key("llama.rope.freq_base", F32, 10000),
    }
    sizes = {"block_count": layers, "context_length": 64, "embedding_length": hidden, "feed_forward_length": ffn,
             "attention.head_count": heads, "attention.head_count_kv": kv, "vocab_size": vocab}
    for name, size in sizes.items():
        keys[f"llama.{name}"] = key(f"llama.{name}", U32, size)
    keys["tokens"] = array("tokenizer.ggml.tokens", STRING, ["a", "b", "c"])
    kept = [value for name, value in keys.items() if name not in drop] + list(extra)
    if tensors is None:
        dim = hidden // heads
        block = lambda r, c: (bytes(range(20)) * (r * c // 32))[: r * c // 32 * 20]
        tensors = [("token_embd.weight", (hidden, vocab), 8, bytes(hidden * vocab // 32 * 34)),
                   ("output_norm.weight", (hidden,), 0, row(hidden))]
        for i in range(layers):
            tensors += [(f"blk.{i}.attn_norm.weight", (hidden,), 0, row(hidden)),
                        (f"blk.{i}.ffn_norm.weight", (hidden,), 0, row(hidden))]
            for part, r, c in [("attn_q", heads * dim, hidden), ("attn_k", kv * dim, hidden), ("attn_v", kv * dim, hidden),
                               ("attn_output", hidden, heads * dim), ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden),
                               ("ffn_down", hidden, ffn)]:
                tensors.append((f"blk.{i}.{part}.weight", (c, r), 3, block(r, c)))
            tensors.append((f"blk.{i}.attn_q.bias", (heads * dim,), 0, row(heads * dim)))
    return gguf(kept, tensors)


ALL_TYPES = [key(f"k{kind}", kind, "text" if kind == STRING else 1) for kind in range(13) if kind != ARRAY]
ARRAYS = [array("strings", STRING, ["a", "", "bc"]), array("i32", I32, [1, -2]), array("f32", F32, [0.5]),
          array("u8", U8, range(9)), array("none", U64, []), array("no_floats", F32, [])]
ONE = [("t", (8,), 0, row())]

CONTAINERS = {
    "all_types": gguf(ALL_TYPES + ARRAYS, [("a", (8,), 0, row()), ("b", (32, 2), 3, bytes(40)), ("c", (), 1, b"hf"),
                                          ("d", (2, 1, 3, 1), 30, bytes(12)), ("e", (0, 4), 0, b"")]),
    "version_2": gguf(ALL_TYPES, ONE, version=2),
    "align_64": gguf([key("general.alignment", U32, 64)], ONE * 1, align=64),
    "gap": gguf([], [("a", (8,), 0, row()), ("b", (8,), 0, bytes(96), 64)]),
    "empty": b"",
    "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
    "zip": b"PK\3\4" + bytes(40),
    "short_header": gguf()[:23],
    "version_1": gguf([], ONE, version=1),
    "big_endian": gguf([], ONE, version=3 << 24),
    "version_4": gguf([], ONE, version=4),
    "many_tensors": gguf([], ONE, counts=(HUGE, 0)),
    "many_keys": gguf([], ONE, counts=(1, HUGE)),
    "empty_key_name": gguf([key("", U32, 1)]),
    "long_key_name": gguf([struct.pack("<Q", HUGE) + bytes(40)]),
    "key_name_not_utf8": gguf([key(b"a\x80", U32, 1)]),
    "key_name_escape": gguf([key("\x1b[2J", U32, 1)]),
    "value_type_13": gguf([raw_key("k", 13, bytes(8))]),
    "bool_2": gguf([raw_key("k", BOOL, b"\2")]),
    "string_past_end": gguf([raw_key("k", STRING, struct.pack("<Q", HUGE))]),
    "array_of_arrays": gguf([raw_key("k", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(20))]),
    "array_of_type_99": gguf([raw_key("k", ARRAY, struct.pack("<IQ", 99, 1) + bytes(20))]),
    "array_past_end": gguf([array("k", U64, [1], count=2**61)]),
    "strings_past_end": gguf([array("k", STRING, ["a"], count=3)])[:50],
    "duplicate_key": gguf([key("k", U32, 1), key("k", U32, 2)]),
    "split": gguf([key("split.count", U16, 3)]),
    "align_0": gguf([key("general.alignment", U32, 0)], ONE),
    "align_48": gguf([key("general.alignment", U32, 48)], ONE),
    "align_u64": gguf([key("general.alignment", U64, 32)], ONE),
    "align_2_31": gguf([key("general.alignment", U32, 1 << 31)], ONE),
    "duplicate_tensor": gguf([], ONE + ONE),
    "rank_5": gguf([], [("t", (1, 1, 1, 1, 8), 0, row())]),
    "dims_overflow": gguf([], [("t", (2**32, 2**32), 0, row())]),
    "dims_overflow_behind_0": gguf([], [("t", (0, 2**32, 2**32), 0, row())]),
    "bytes_overflow": gguf([], [("t", (2**62,), 0, row())]),
    "type_12": gguf([], [("t", (256,), 12, bytes(144))]),
    "type_99": gguf([], [("t", (8,), 99, row())]),
    "part_of_a_block": gguf([], [("t", (48, 2), 3, bytes(60))]),
    "offset_not_aligned": gguf([], [("t", (8,), 0, row(), 16)]),
    "offset_overflow": gguf([], [("t", (8,), 0, row(), HUGE - 31)]),
    "data_past_end": gguf([], [("a", (8,), 0, row()), ("b", (64,), 0, row())]),
    "overlap": gguf([], [("a", (16,), 0, row(16)), ("b", (16,), 0, row(16), 32)]),
    "cut_in_infos": gguf([], ONE)[:50],
}
MODELS = {
    "llama": llama(),
    "llama_yarn": llama([key("llama.rope.scaling.type", STRING, "yarn"), key("llama.rope.scaling.factor", F32, 4),
                         key("llama.rope.scaling.original_context_length", U32, 16)]),
    "llama_no_theta": llama(drop=["llama.rope.freq_base"]),
    "llama_arrays": llama([array("llama.attention.head_count", U32, [4, 4])], drop=["llama.attention.head_count"]),
    "qwen2": llama([key("general.architecture", STRING, "qwen2")], drop=["general.architecture"]),
    "experts": llama([key("llama.expert_count", U32, 8)]),
    "zero_heads": llama([key("llama.attention.head_count", U32, 0)], drop=["llama.attention.head_count"]),
    "huge_heads": llama([key("llama.attention.head_count", U32, 2**32 - 1)], drop=["llama.attention.head_count"]),
    "many_layers": llama([key("llama.block_count", U32, 2**32 - 1)], drop=["llama.block_count"]),
    "nan_eps": llama([key("llama.attention.layer_norm_rms_epsilon", F32, float("nan"))],
                     drop=["llama.attention.layer_norm_rms_epsilon"]),
    "rope_freqs": llama(tensors=[("rope_freqs.weight", (4,), 0, row(4))]),
    "wrong_shape": llama(tensors=[("blk.0.attn_q.weight", (8, 4), 0, row(32))]),
    "layer_spelled_twice": llama(tensors=[("blk.00.attn_norm.weight", (32,), 0, row(32))]),
}

if __name__ == "__main__":
    for folder, files in (("gguf", CONTAINERS), ("gguf_checkpoint", MODELS)):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (CORPUS / folder / f"{name}.gguf").write_bytes(content)
