"""Draws the random mask's words again from docs/formats/mask.md alone, and checks the page's own vectors."""

import hashlib
import math
import os
import pathlib
import re
import struct
import sys
import unittest

ROOT = pathlib.Path(os.environ.get("SLUICE_SOURCE", pathlib.Path(__file__).resolve().parent.parent))
PAGE = (ROOT / "docs/formats/mask.md").read_text(encoding="utf-8")
MASK32 = 0xFFFFFFFF
ELEMENTS = (0, 1, 8, 31, 32, 2**35 + 9)


def mask_key(seed, tensor, ordinal):
    sha = hashlib.sha256()
    for part in ("sluice mask 1", str(seed), tensor, str(ordinal)):
        data = part.encode("utf-8")
        sha.update(struct.pack("<Q", len(data)) + data)
    return struct.unpack("<II", sha.digest()[:8])


def philox(counter, key):
    c = [counter & MASK32, counter >> 32, 0, 0]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & MASK32, (p0 >> 32) ^ c[3] ^ k1, p0 & MASK32]
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c


def mask_word(key, element):
    return philox(8 * (element // 32) + element % 8, key)[element % 32 // 8]


class MaskFormat(unittest.TestCase):
    def test_philox_is_the_published_one(self):
        # Random123's known answers for philox4x32 10 with an all-zero counter and key.
        self.assertEqual(philox(0, (0, 0)), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])

    def test_the_pages_vectors(self):
        rows = re.findall(r"^\| (\d+) \| `([^`]+)` \| (\d+) \| ([0-9a-f]{8}) \| ([0-9a-f]{8}) \| ([0-9a-f ]+) \|$", PAGE, re.M)
        self.assertGreaterEqual(len(rows), 4)
        for seed, tensor, ordinal, k0, k1, words in rows:
            with self.subTest(tensor=tensor):
                key = mask_key(int(seed), tensor, int(ordinal))
                self.assertEqual(key, (int(k0, 16), int(k1, 16)))
                self.assertEqual([mask_word(key, e) for e in ELEMENTS], [int(w, 16) for w in words.split()])

    def test_the_pages_densities(self):
        rows = re.findall(r"^\| ([0-9.]+) \| (\d+) \|$", PAGE, re.M)
        self.assertGreaterEqual(len(rows), 6)
        for density, below in rows:
            self.assertEqual(math.floor(float(density) * 2**32 + 0.5), int(below), density)


if __name__ == "__main__":
    sys.exit(0 if unittest.main(exit=False, verbosity=1).result.wasSuccessful() else 1)
