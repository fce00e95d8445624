"""Tiny checkpoints written byte by byte, and the program under test, for the command line's tests. Standard library only."""

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

SLUICE = os.environ.get("SLUICE", "")
TIMEOUT_SECONDS = 300


def require_program():
    if not SLUICE or not os.access(SLUICE, os.X_OK):
        print("skipped: no program; set SLUICE to the path of sluice")
        sys.exit(77)


def main():
    require_program()
    sys.exit(0 if unittest.main(module="__main__", exit=False, verbosity=1).result.wasSuccessful() else 1)


class Result:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.status}\nstdout:\n{self.out}\nstderr:\n{self.err}"


def sluice(*arguments, cwd=None, stdin=None):
    return Result(subprocess.run([SLUICE, *map(str, arguments)], cwd=cwd, stdin=stdin or subprocess.DEVNULL, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT_SECONDS))


class Case(unittest.TestCase):
    """A test with a folder of its own and assertions about a run."""

    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluice-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def run_ok(self, *arguments, status=0, **how):
        result = sluice(*arguments, **how)
        self.assertEqual(result.status, status, result)
        return result

    def run_fails(self, status, words, *arguments, **how):
        """Exits with `status`, has all of `words` on stderr and nothing on stdout; the same told as JSON."""
        result = sluice(*arguments, **how)
        self.assertEqual(result.status, status, result)
        self.assertEqual(result.out, "", result)
        for word in words:
            self.assertIn(word.lower(), result.err.lower(), result)
        self.assertIn("sluice: error: ", result.err)
        as_json = sluice(*arguments, "--json", **how)
        self.assertEqual(as_json.status, status, as_json)
        error = as_json.json()
        self.assertEqual(list(error), ["schema", "code", "message", "context"])
        self.assertEqual(error["schema"], "sluice/error/v1")
        told = " ".join([error["message"], *error["context"]]).lower()
        for word in words:
            self.assertIn(word.lower(), told, as_json)
        return result


# ---------------------------------------------------------------------------------------------------------------------
# Numbers.


def f32(values):
    return struct.pack(f"<{len(values)}f", *values)


def bf16_bits(value):
    """Round to nearest even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def bf16(values):
    return struct.pack(f"<{len(values)}H", *map(bf16_bits, values))


def decode_bf16(data):
    return list(struct.unpack(f"<{len(data) // 2}f", b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))))


def f16(values):
    return struct.pack(f"<{len(values)}e", *values)


PACK = {"F32": f32, "BF16": bf16, "F16": f16}


def normal(seed, count, scale=0.05):
    generator = random.Random(seed)
    return [generator.gauss(0, scale) for _ in range(count)]


# ---------------------------------------------------------------------------------------------------------------------
# safetensors.


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes), in the order of the file."""
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size :]
    return {name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def write_sparse_model(folder, gigabytes):
    """A model of one F32 tensor of zeros that takes no space on disk."""
    folder.mkdir(parents=True)
    rows = int(gigabytes * 1_000_000_000) // 4096
    size = rows * 4096
    text = json.dumps({"w": {"dtype": "F32", "shape": [rows, 1024], "data_offsets": [0, size]}}).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# A Llama small enough to be written by hand.

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 2, 32, 4, 2, 48, 40

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCAB,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}


def shapes(vocab=VOCAB, hidden=HIDDEN):
    head = hidden // HEADS
    result = {"model.embed_tokens.weight": [vocab, hidden]}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        result[prefix + "input_layernorm.weight"] = [hidden]
        result[prefix + "mlp.down_proj.weight"] = [hidden, FFN]
        result[prefix + "mlp.gate_proj.weight"] = [FFN, hidden]
        result[prefix + "mlp.up_proj.weight"] = [FFN, hidden]
        result[prefix + "post_attention_layernorm.weight"] = [hidden]
        result[prefix + "self_attn.k_proj.weight"] = [KV_HEADS * head, hidden]
        result[prefix + "self_attn.o_proj.weight"] = [hidden, hidden]
        result[prefix + "self_attn.q_proj.weight"] = [hidden, hidden]
        result[prefix + "self_attn.v_proj.weight"] = [KV_HEADS * head, hidden]
    result["model.norm.weight"] = [hidden]
    result["lm_head.weight"] = [vocab, hidden]
    return result


def product(shape):
    count = 1
    for dim in shape:
        count *= dim
    return count


def values_of(seed, update_seed=0, scale=0.01, **dims):
    """name -> list of floats; a fine-tune where update_seed is given."""
    result = {}
    for index, (name, shape) in enumerate(shapes(**dims).items()):
        values = normal(seed * 1000 + index, product(shape))
        if update_seed:
            values = [v + u for v, u in zip(values, normal(update_seed * 1000 + index, len(values), scale))]
        result[name] = values
    return result


def write_model(folder, seed=1, update_seed=0, shards=1, dtype="BF16", config=None, tokenizer=True, drop=(), extra=None, **dims):
    """A folder; `extra`: more tensors, name -> (dtype, shape, bytes). Returns its path."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = shapes(**dims)
    tensors = {name: (dtype, sizes[name], PACK[dtype](values))
               for name, values in values_of(seed, update_seed, **dims).items() if name not in drop}
    tensors.update(extra or {})
    names = list(tensors)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    else:
        weight_map = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
            part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
            write_safetensors(folder / file, {name: tensors[name] for name in part}, {"format": "pt"})
            weight_map.update({name: file for name in part})
        total = sum(len(data) for _, _, data in tensors.values())
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    if config is not None or not dims:
        (folder / "config.json").write_text(json.dumps(dict(CONFIG, **(config or {})), indent=2))
    else:
        changed = dict(CONFIG, vocab_size=dims.get("vocab", VOCAB), hidden_size=dims.get("hidden", HIDDEN))
        (folder / "config.json").write_text(json.dumps(changed, indent=2))
    if tokenizer:
        (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}')
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return folder


GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
}


def q8_0(values):
    """Blocks of 32: f16 d = amax / 127, then 32 signed bytes."""
    out = b""
    for at in range(0, len(values), 32):
        block = values[at : at + 32]
        d = struct.unpack("<e", struct.pack("<e", max(map(abs, block)) / 127))[0] or 1.0
        out += struct.pack("<e32b", d, *(max(-127, min(127, round(v / d))) for v in block))
    return out


def write_gguf(path, seed=1, quantised=True, tokens=True):
    """The model of write_model(seed) as llama.cpp's converter lays it out: F32, or Q8_0 where rows are whole blocks."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def key(name, kind, pack, value):
        return text(name) + struct.pack("<I", kind) + (text(value) if kind == 8 else struct.pack(pack, value))

    keys = [key("general.architecture", 8, "", "llama")]
    for name, value in {"block_count": LAYERS, "context_length": 128, "embedding_length": HIDDEN, "feed_forward_length": FFN,
                        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "vocab_size": VOCAB}.items():
        keys.append(key("llama." + name, 4, "<I", value))
    keys.append(key("llama.attention.layer_norm_rms_epsilon", 6, "<f", 1e-5))
    keys.append(key("llama.rope.freq_base", 6, "<f", 10000.0))
    if tokens:
        words = [f"<{i}>" for i in range(VOCAB)]
        keys.append(key("tokenizer.ggml.model", 8, "", "llama"))
        keys.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, VOCAB) + b"".join(map(text, words)))

    sizes, infos, data = shapes(), b"", b""
    for name, values in values_of(seed).items():
        shape = sizes[name]
        stem = name.split(".", 3)
        gguf_name = GGUF_NAMES.get(name) or f"blk.{stem[2]}.{GGUF_NAMES[stem[3]]}"
        if gguf_name.endswith(("attn_q.weight", "attn_k.weight")):  # reshape(heads, 2, d/2, in), axes 1 and 2 swapped
            heads, columns = (HEADS if "_q." in gguf_name else KV_HEADS), shape[1]
            dim = shape[0] // heads
            rows = [values[r * columns : (r + 1) * columns] for r in range(shape[0])]
            values = [v for h in range(heads) for r in range(dim) for v in rows[h * dim + r % 2 * (dim // 2) + r // 2]]
        blocks = quantised and len(shape) == 2 and shape[-1] % 32 == 0
        data += b"\0" * (-len(data) % 32)
        infos += text(gguf_name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos += struct.pack("<IQ", 8 if blocks else 0, len(data))
        data += q8_0(values) if blocks else f32(values)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(sizes), len(keys)) + b"".join(keys) + infos
    pathlib.Path(path).write_bytes(head + b"\0" * (-len(head) % 32) + data + b"\0" * (-len(data) % 32))
    return path


def recipe_text(method, base, models, dtype="bfloat16", **parameters):
    """models: list of (path, {parameter: value})."""
    lines = [f"merge_method: {method}"]
    if base:
        lines.append(f"base_model: {base}")
    lines.append("models:")
    for path, values in models:
        lines.append(f"  - model: {path}")
        if values:
            lines.append("    parameters:")
            lines += [f"      {key}: {value}" for key, value in values.items()]
    if parameters:
        lines.append("parameters:")
        lines += [f"  {key}: {json.dumps(value)}" for key, value in parameters.items()]
    lines.append(f"dtype: {dtype}")
    return "\n".join(lines) + "\n"
