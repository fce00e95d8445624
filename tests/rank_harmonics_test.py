"""Rounding's own directions (docs/verify_tensors.md): the derivation behind the bound (1 - g)^2 / 16 of effective_rank.cc, computed anew."""

import math
import pathlib
import re
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "src" / "verify" / "effective_rank.cc"
BINADES = range(-36, 4)
NORMAL = [math.erf(2.0 ** (k + 1) / math.sqrt(2)) - math.erf(2.0**k / math.sqrt(2)) for k in BINADES]  # share of |w|, w normal
ULPS = [2.0 ** (k - 7) for k in BINADES]  # of BF16


def expected_change(x):
    """What a change of x becomes on the average over normal weights on BF16's grid, and the share of weights that change."""
    f = g = 0.0
    for share, ulp in zip(NORMAL, ULPS):
        steps = round(x / ulp)
        if steps == 0:
            continue
        f += share * ulp * steps
        g += share
    return f, g


def largest(matrix, count):
    """Absolute eigenvalues of a symmetric matrix, largest first: power iteration on its square, with deflation."""
    n, found = len(matrix), []
    for k in range(count):
        v = [math.sin(1.7 * i * (k + 1)) + 1.1 for i in range(n)]
        value = 0.0
        for _ in range(60):
            for _, u in found:
                overlap = sum(a * b for a, b in zip(u, v))
                v = [b - overlap * a for a, b in zip(u, v)]
            w = v
            for _ in range(2):
                w = [sum(a * b for a, b in zip(row, w)) for row in matrix]
            norm = math.sqrt(sum(a * a for a in w))
            if norm == 0:
                break
            value, v = math.sqrt(norm), [a / norm for a in w]
        found.append((value, v))
    return [value for value, _ in found]


def strongest_of_its_own(strength, rank, low=-4.6, high=2.0):
    """The share g that changes, and the energy of the strongest direction that rounding makes, in that of a true one: of rank equal normal directions."""
    step = 0.06
    n = int((high - low) / step)
    radii = [math.exp(low + step * i) for i in range(n)]
    weights = [a**rank * math.exp(-a * a / 2) * step * 2 ** (1 - rank / 2) / math.gamma(rank / 2) for a in radii]
    if rank == 1:
        angles = [(1.0, 1.0)]
    else:
        cosines = [math.cos((i + 0.5) * math.pi / 2 / 100) for i in range(100)]
        shares = [(1 - t * t) ** ((rank - 2) / 2) for t in cosines]
        angles = [(t, share / sum(shares)) for t, share in zip(cosines, shares)]
    degree_1, degree_3, changed = [], [], []
    for i in range(2 * n - 1):  # of products of two radii
        z = strength * math.exp(2 * low + step * i)
        one = three = share_changed = 0.0
        for t, share in angles:
            f, g = expected_change(z * t)
            one += share * f * t
            three += share * f * ((rank + 2) * t**3 - 3 * t) / (rank - 1) if rank > 1 else 0.0
            share_changed += share * g
        degree_1.append(one)
        degree_3.append(three)
        changed.append(share_changed)
    roots = [math.sqrt(w) for w in weights]
    total = sum(weights) ** 2
    g = sum(weights[i] * weights[j] * changed[i + j] for i in range(n) for j in range(n)) / total
    kernel = lambda values: [[roots[i] * roots[j] * values[i + j] for j in range(n)] for i in range(n)]
    true, second = largest(kernel(degree_1), 2)
    other = largest(kernel(degree_3), 1)[0] if rank > 1 else 0.0
    return g, (max(second, other) / true) ** 2


class Harmonics(unittest.TestCase):
    def test_the_bound_is_the_one_in_the_source(self):
        self.assertEqual(re.search(r"kHarmonics = (.*);", SOURCE.read_text()).group(1), "1.0 / 16")

    def test_where_next_to_nothing_changes(self):
        # Rank 1: (2 |zeta(s)| / (|s| zeta(2)))^2, s = 2 + 2 pi i / ln 2; rank r: 1 / (r + 3)^2, up to the ripple of the first.
        for rank, limit in ((1, 0.0244), (2, 1 / 25), (4, 1 / 49), (8, 1 / 121)):
            g, energy = strongest_of_its_own(2e-5 / math.sqrt(rank), rank)
            self.assertLess(g, 0.02)
            self.assertLess(abs(energy / limit - 1), 0.1, (rank, energy, limit))

    def test_it_is_below_the_bound_at_every_strength(self):
        for rank in (1, 2, 4):
            for i in range(11 if rank == 1 else 6):
                strength = 2.0 ** (-15 + (1 if rank == 1 else 2) * i) / math.sqrt(rank)
                g, energy = strongest_of_its_own(strength, rank)
                self.assertLess(energy, 0.75 * (1 - g) ** 2 / 16, (rank, strength, g))


if __name__ == "__main__":
    unittest.main()
