"""The challenges that docs/behaviour.md says a commitment stands for, from its words alone. Standard library only."""

import hashlib
import hmac
import json
import struct


class Stream:
    """64-bit words by key, domain and name."""

    def __init__(self, key, domain, name):
        self.seed = hmac.new(key, domain.encode() + b"\0" + name.encode(), hashlib.sha256).digest()
        self.counter, self.words = 0, []

    def next(self):
        if not self.words:
            block = hashlib.sha256(self.seed + struct.pack("<Q", self.counter)).digest()
            self.counter += 1
            self.words = list(struct.unpack("<4Q", block))
        return self.words.pop(0)

    def below(self, limit):
        while True:
            word = self.next()
            if word < (1 << 64) - (1 << 64) % limit:
                return word % limit


def run_id_of(commitment):
    return hashlib.sha256(json.dumps(commitment["terms"], separators=(",", ":")).encode()).hexdigest()


def challenge_of(commitment, index, drawable):
    stream = Stream(bytes.fromhex(commitment["key"]), "sluice behaviour challenge 1", f"{run_id_of(commitment)} {index}")
    return [drawable[stream.below(len(drawable))] for _ in range(commitment["terms"]["challenge_tokens"])]


def order_of(key, count):
    """Of prompts."""
    stream, order = Stream(bytes.fromhex(key), "sluice behaviour order 1", ""), list(range(count))
    for t in range(count - 1):
        other = t + stream.below(count - t)
        order[t], order[other] = order[other], order[t]
    return order
