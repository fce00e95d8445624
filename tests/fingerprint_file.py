"""docs/formats/fingerprint.md done again from that page alone, for tests: which blocks are drawn, and what a file says of them."""

import hashlib
import hmac
import json
import math
import struct
from fractions import Fraction

BLOCK = 2048
DOMAIN = b"sluice fingerprint 1"


def sha(data):
    return hashlib.sha256(data).digest()


def u64(number):
    return struct.pack("<Q", number)


def f64(number):
    return struct.pack("<d", number)


def text(content):
    content = content.encode()
    return u64(len(content)) + content


def words(nonce, name):
    key = hmac.new(bytes.fromhex(nonce), DOMAIN + b"\0" + name.encode(), hashlib.sha256).digest()
    counter = 0
    while True:
        yield from struct.unpack("<4Q", sha(key + u64(counter)))
        counter += 1


def below(stream, limit):
    while True:
        word = next(stream)
        if word < 2**64 - 2**64 % limit:
            return word % limit


def blocks_of(elements):
    return -(-elements // BLOCK)


def draw(nonce, tensors, detect=0.001, confidence=0.99):
    """tensors: name -> number of elements. Gives name -> drawn blocks."""
    draws = math.ceil(math.log1p(-confidence) / math.log1p(-detect))
    total = sum(map(blocks_of, tensors.values()))
    drawn = {}
    for name, elements in tensors.items():
        count = blocks_of(elements)
        take = min(count, math.ceil(Fraction(draws * count, total))) if count else 0
        chosen, stream = set(), words(nonce, name)
        if take == count:
            chosen = set(range(count))
        else:
            for last in range(count - take, count):
                number = below(stream, last + 1)
                chosen.add(last if number in chosen else number)
        drawn[name] = sorted(chosen)
    return drawn


def print_of(values):
    """SHA-256 of the values as f32, and their sums: of a list of finite floats that f32 holds."""
    return sha(struct.pack(f"<{len(values)}f", *values)), [running_sum(values), running_sum([v * v for v in values]), min(values), max(values), 0, 0]


def running_sum(values):
    total = 0.0
    for value in values:  # not sum(), which newer versions of Python compensate
        total += value
    return total


class File:
    """A fingerprint's file; its digests are checked as it is read."""

    def __init__(self, path):
        self.json = json.loads(path.read_text())
        j = self.json
        assert j["schema"] == "sluice/fingerprint-file/v1", j["schema"]
        header = sha(text(j["schema"]) + text(j["made_by"]) + text(j["model"]) + text(j["nonce"]) +
                     f64(j["detectable_fraction"]) + f64(j["confidence"]) + u64(j["block_elements"]) +
                     text(j["architecture"]) + u64(j["config"] is not None) + text(j["config"] or "") +
                     bytes.fromhex(j["tokenizer_hash"]))
        assert header.hex() == j["header_digest"]
        digests = []
        self.tensors = {}
        for tensor in j["tensors"]:
            stored = [tensor["stored"][i:i + 64] for i in range(0, len(tensor["stored"]), 64)]
            values = tensor.get("values", "")
            values = [values[i:i + 64] for i in range(0, len(values), 64)]
            message = text(tensor["name"]) + text(tensor["encoding"]) + u64(len(tensor["shape"]))
            message += b"".join(map(u64, tensor["shape"])) + u64(len(stored))
            for i, block in enumerate(stored):
                message += bytes.fromhex(block)
                if "values" in tensor:
                    message += bytes.fromhex(values[i]) + b"".join(map(f64, tensor["sums"][i][:4]))
                    message += b"".join(map(u64, tensor["sums"][i][4:]))
            digests.append(sha(message))
            assert digests[-1].hex() == tensor["digest"], tensor["name"]
            self.tensors[tensor["name"]] = (stored, values, tensor.get("sums"))
        assert sha(header + b"".join(digests)).hex() == j["digest"]
