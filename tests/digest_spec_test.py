"""The digests of docs/formats/digest.md, computed again from that page alone: `sluice digest DIR --json` must find the same, whatever the
number of files. Also holds the page to its own test vectors."""

import hashlib
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest

import budgets

SLUICE = os.environ.get("SLUICE", "build/dev/sluice")
SOURCE = pathlib.Path(os.environ.get("SLUICE_SOURCE", pathlib.Path(__file__).resolve().parent.parent))
CHUNK = 2**20
TOKENIZER_FILES = ("added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt",
                   "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


def sha(data):
    return hashlib.sha256(data).digest()


def u64(number):
    return struct.pack("<Q", number)


def text(content):
    content = content.encode() if isinstance(content, str) else content
    return u64(len(content)) + content


def tree(leaves):
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\x01" + tree(leaves[:k]) + tree(leaves[k:]))


def tensor_root(data):
    return tree([sha(b"\x00" + data[at:at + CHUNK]) for at in range(0, len(data), CHUNK)])


def leaf(name, encoding, shape, root):
    return sha(b"\x00" + text(name) + text(encoding) + u64(len(shape)) + b"".join(map(u64, shape)) + root)


def weights_root(tensors):
    """tensors: name -> (encoding, shape, root)"""
    leaves = []
    for name in sorted(tensors, key=str.encode):
        prefix = name.removesuffix("lm_head.weight")
        embeddings = [prefix + rest for rest in ("model.embed_tokens.weight", "transformer.wte.weight",
                                                 "transformer.word_embeddings.weight")]
        tied = name.endswith("lm_head.weight") and (not prefix or prefix.endswith(".")) and any(
            tensors.get(embedding) == tensors[name] for embedding in embeddings)
        if not tied:
            leaves.append(leaf(name, *tensors[name]))
    return tree(leaves)


# "Canonical config", for configs of a model_type without defaults, which have no keys of rotary embedding.
LEFT_OUT = {"torch_dtype", "dtype", "transformers_version", "use_cache", "_name_or_path", "initializer_range"}


def whole(x):
    if isinstance(x, dict):
        return {key: whole(value) for key, value in x.items()}
    if isinstance(x, list):
        return [whole(value) for value in x]
    if isinstance(x, int) and not isinstance(x, bool) and not -2**63 <= x < 2**64:
        x = float(x)
    return int(x) if isinstance(x, float) and x.is_integer() else x


def canonical(config):
    kept = {key: value for key, value in config.items() if key not in LEFT_OUT and value is not None}
    return json.dumps(whole(kept), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def model_root(weights, config, files):
    config_hash = sha(canonical(config).encode() if config is not None else b"")
    tokenizer = b"".join(text(name) + text(files[name]) for name in sorted(files) if name in TOKENIZER_FILES)
    return sha(weights + config_hash + sha(tokenizer))


SIZES = {"F64": 8, "F32": 4, "I64": 8, "BF16": 2, "F16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


def tensors_of_the_test():
    generator = random.Random(1)
    shapes = {
        "model.embed_tokens.weight": ("BF16", [700, 801]),   # a chunk and a part of one
        "lm_head.weight": ("BF16", [700, 801]),              # the same bytes: tied
        "model.layers.0.mlp.up_proj.weight": ("F32", [1000, 1001]),  # four chunks, the last short
        "exactly.two.chunks": ("U8", [2, CHUNK]),
        "model.norm.weight": ("F16", [5]),
        "a.scalar": ("F64", []),
        "an.empty.one": ("F32", [0, 7]),
        "positions": ("I64", [3]),
        "größe": ("F8_E4M3", [11]),
        "mask": ("BOOL", [2]),
        "Zeta": ("U8", [CHUNK + 1]),
    }
    tensors = {}
    for name, (dtype, shape) in shapes.items():
        count = SIZES[dtype]
        for dim in shape:
            count *= dim
        tensors[name] = (dtype, shape, bytes(count) if dtype == "BOOL" else generator.randbytes(count))
    embedding = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding
    return tensors


def write_safetensors(path, tensors, metadata=None):
    header = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def write_folder(folder, tensors, shards, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    # Neither order nor dealing may matter.
    names = sorted(tensors, key=lambda name: hashlib.md5(f"{shards} {name}".encode()).digest())
    if shards == 1:
        write_safetensors(folder / "model.safetensors", {name: tensors[name] for name in names}, {"format": "pt"})
        return
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        write_safetensors(folder / file, part)
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def digest(path, *options):
    run = subprocess.run([SLUICE, "digest", str(path), "--json", *options], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise AssertionError(f"sluice digest {path}: exit {run.returncode}\n{run.stdout}{run.stderr}")
    return json.loads(run.stdout)


class Page(unittest.TestCase):
    def test_its_vectors(self):
        page = (SOURCE / "docs/formats/digest.md").read_text(encoding="utf-8")
        vectors = re.findall(r"^\| (.+?) \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
        twelve = leaf("w", "BF16", [2, 3], tensor_root(bytes(range(12))))
        expected = [tensor_root(b""), tensor_root(b"\x00"), tensor_root(bytes(CHUNK)), tensor_root(bytes(CHUNK + 1)),
                    tensor_root(bytes(5 * CHUNK)), twelve, model_root(tree([twelve]), None, {})]
        self.assertEqual([value for _, value in vectors], [root.hex() for root in expected])


class Digest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)

    def check(self, path, tensors, config, files, *options):
        roots = {name: (dtype, shape, tensor_root(content)) for name, (dtype, shape, content) in tensors.items()}
        result = digest(path, *options)
        self.assertEqual([tensor["name"] for tensor in result["tensors"]], sorted(tensors, key=str.encode))
        for tensor in result["tensors"]:
            dtype, shape, root = roots[tensor["name"]]
            self.assertEqual((tensor["encoding"], tensor["shape"], tensor["digest"]), (dtype, shape, root.hex()),
                             tensor["name"])
        self.assertEqual(result["bytes"], sum(len(content) for _, _, content in tensors.values()))
        weights = weights_root(roots)
        self.assertEqual(result["weights_root"], weights.hex())
        self.assertEqual(result["root"], model_root(weights, config, files).hex())

    def test_in_one_file_and_in_three(self):
        tensors = tensors_of_the_test()
        config = {"model_type": "of-no-known-family", "hidden_size": 801, "eps": 1e-05, "scale": 2.0, "torch_dtype": "bfloat16",
                  "name": "größe", "use_cache": True, "nested": {"b": [1, 2.5], "a": None}, "nothing": None}
        files = {
            "tokenizer.json": '{"größe": 1}\n'.encode(),
            "tokenizer_config.json": b"{}",
            "merges.txt": b"",
            "generation_config.json": b'{"not": "hashed"}',
            "config.json": json.dumps(config).encode(),
        }
        for shards in (1, 3):
            path = self.folder / str(shards)
            write_folder(path, tensors, shards, files)
            self.check(path, tensors, config, files)
            self.check(path, tensors, config, files, "--threads", "1", "--max-memory", budgets.mebibytes(64))

    def test_without_config_and_tokenizer(self):
        tensors = {"w": ("BF16", [2, 3], bytes(range(12)))}
        write_folder(self.folder / "bare", tensors, 1, {})
        self.check(self.folder / "bare", tensors, None, {})
        self.check(self.folder / "bare" / "model.safetensors", tensors, None, {})

    def test_the_tied_copy_is_left_out(self):
        tensors = tensors_of_the_test()
        write_folder(self.folder / "with", tensors, 1, {})
        with_copy = digest(self.folder / "with")
        del tensors["lm_head.weight"]
        write_folder(self.folder / "without", tensors, 3, {})
        self.assertEqual(digest(self.folder / "without")["root"], with_copy["root"])

    def test_every_byte_counts(self):
        tensors = {"w": ("U8", [3 * CHUNK + 5], bytes(3 * CHUNK + 5))}
        write_folder(self.folder / "zero", tensors, 1, {})
        roots = {digest(self.folder / "zero")["root"]}
        for place in (0, CHUNK - 1, CHUNK, 3 * CHUNK + 4):
            changed = bytearray(tensors["w"][2])
            changed[place] = 1
            path = self.folder / str(place)
            write_folder(path, {"w": ("U8", [3 * CHUNK + 5], bytes(changed))}, 1, {})
            roots.add(digest(path)["root"])
        self.assertEqual(len(roots), 5)


if __name__ == "__main__":
    sys.exit(0 if unittest.main(exit=False, verbosity=1).result.wasSuccessful() else 1)
