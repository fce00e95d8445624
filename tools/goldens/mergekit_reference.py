#!/usr/bin/env python3
"""dare_ties again, in numpy alone: the proof that the facts in README.md are enough for the same bits.

    python3 tools/goldens/mergekit_reference.py            recomputes the dare_ties cases and compares with expected/

Own code, written from the facts: the draws (MT19937), their order, the rounding after each step, torch's sums.
Layout of the sums: one thread, 256-bit vectors.
"""
import hashlib, json, os, re, struct, sys
import numpy as np

F = np.float32


# ---- numbers -----------------------------------------------------------------------------------
def bf16(x):
    b = np.ascontiguousarray(x, F).view(np.uint32).astype(np.uint64)
    b = ((b + ((b >> np.uint64(16)) & np.uint64(1)) + np.uint64(0x7FFF)) >> np.uint64(16)) << np.uint64(16)
    return b.astype(np.uint32).view(F)


ROUND = {"BF16": bf16, "F16": lambda x: np.asarray(x, F).astype(np.float16).astype(F), "F32": lambda x: np.asarray(x, F)}
NAME = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def raw(x, dtype):
    if dtype == "BF16":
        return (np.ascontiguousarray(x, F).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    return x.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def read(folder):
    out = {}
    for fn in sorted(os.listdir(folder)):
        if not fn.endswith(".safetensors"):
            continue
        b = open(os.path.join(folder, fn), "rb").read()
        n = struct.unpack("<Q", b[:8])[0]
        h = json.loads(b[8:8 + n])
        for k, v in h.items():
            if k == "__metadata__":
                continue
            p = b[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]
            if v["dtype"] == "BF16":
                x = (np.frombuffer(p, "<u2").astype(np.uint32) << np.uint32(16)).view(F)
            else:
                x = np.frombuffer(p, "<f2" if v["dtype"] == "F16" else "<f4").astype(F)
            out[k] = x.reshape(v["shape"]), v["dtype"]
    return out


# ---- draws -------------------------------------------------------------------------------------
class Draws:
    """One 32-bit word of MT19937 per element; init_genrand(seed)."""

    def __init__(self, seed):
        self.g = np.random.MT19937()
        key = np.zeros(624, np.uint64)
        key[0] = seed & 0xFFFFFFFF
        for i in range(1, 624):
            key[i] = (1812433253 * (int(key[i - 1]) ^ (int(key[i - 1]) >> 30)) + i) & 0xFFFFFFFF
        self.g.state = {"bit_generator": "MT19937", "state": {"key": key.astype(np.uint32), "pos": 624}}

    def mask(self, shape, p):
        n = int(np.prod(shape))
        r = self.g.random_raw(n).astype(np.uint64) & np.uint64(0xFFFFFF)
        return (r.astype(F) * F(2.0 ** -24) < F(p)).astype(F).reshape(shape)


# ---- torch's sums (one thread, 8 lanes) --------------------------------------------------------
def levels(rows):
    """rows [n, ...]: blocks of 2^p rows are summed in order, then blocks of blocks, four levels."""
    n = len(rows)
    power = max(4, (max(n - 1, 0).bit_length() if n > 1 else 0) // 4)
    step = 1 << power
    acc = [np.zeros(rows.shape[1:], F) for _ in range(4)]
    i = 0
    while i + step <= n:
        for _ in range(step):
            acc[0] = acc[0] + rows[i]
            i += 1
        for j in range(1, 4):
            acc[j] = acc[j] + acc[j - 1]
            acc[j - 1] = np.zeros(rows.shape[1:], F)
            if i & ((step - 1) << (j * power)):
                break
    while i < n:
        acc[0] = acc[0] + rows[i]
        i += 1
    for j in range(1, 4):
        acc[0] = acc[0] + acc[j]
    return acc[0]


def rows_of_four(rows):
    """Four interleaved sums, the rest into the first, then the four added up in order."""
    n = len(rows) // 4
    a = levels(rows[:4 * n].reshape((n, 4) + rows.shape[1:]))
    s = a[0]
    for r in rows[4 * n:]:
        s = s + r
    for k in range(1, 4):
        s = s + a[k]
    return s


def sum_all(x, dtype):
    """Sum of a contiguous tensor, f32 accumulators, one rounding at the end."""
    x = np.ascontiguousarray(x, F).reshape(-1)
    lanes = 16 if dtype in ("BF16", "F16") else 8
    if len(x) < lanes:
        return ROUND[dtype](rows_of_four(x.reshape(-1, 1)))[0]
    n = len(x) // lanes
    v = x[:n * lanes].reshape(n, lanes)
    if lanes == 16:  # two half vectors are widened and added before they join the sum
        v = v[:, :8] + v[:, 8:]
    acc = rows_of_four(v)
    s = F(0)
    for k in range(n * lanes, len(x)):
        s = F(s + x[k])
    for k in range(8):
        s = F(s + acc[k])
    return ROUND[dtype](np.array([s], F))[0]


def sum_models(x, dtype):
    """Sum over axis 0 of [models, ...]: in order for whole groups of four vectors, in fours for what is left."""
    n = len(x)
    flat = np.ascontiguousarray(x, F).reshape(n, -1)
    cols = flat.shape[1]
    if cols == 1:
        return sum_all(flat, dtype).reshape(x.shape[1:])
    lanes = 16 if dtype in ("BF16", "F16") else 8
    out = np.empty(cols, F)
    group = 4 * lanes if cols >= lanes else 4  # fewer columns than a vector: four single columns at a time
    whole = cols // group * group
    if whole:
        out[:whole] = levels(flat[:, :whole])
    if whole < cols:
        out[whole:] = rows_of_four(flat[:, whole:])
    return ROUND[dtype](out).reshape(x.shape[1:])


# ---- the method --------------------------------------------------------------------------------
def gradient(v, t):
    if not isinstance(v, list):
        return v
    s = t * (len(v) - 1)
    i = int(s)
    return (1 - (s - i)) * v[i] + (s - i) * v[min(i + 1, len(v) - 1)]


def dare_ties(base, models, weights, densities, dtype, draws, rescale=True, normalize=False, lam=1.0):
    R = ROUND[dtype]
    work = "F32" if dtype == "F16" else dtype  # masks and rescaling of f16 run in f32
    W = ROUND[work]
    ps = []
    for x, d in zip(models, densities):
        delta = R(x - base)
        if d < 1:
            m = draws.mask(delta.shape, W(np.array([d], F))[0])
            masked = W(delta * m)
            if rescale:
                before, after = sum_all(np.abs(delta), work), sum_all(np.abs(masked), work)
                if not (before < 1e-7 or after < 1e-7):
                    masked = W(masked * W(np.array([before / after], F))[0])
            delta = R(masked)
        ps.append(delta)
    w = [R(np.array([F(v)], F))[0] for v in weights]
    p = np.stack([R(d * v) for d, v in zip(ps, w)])
    s = sum_models(p, dtype)
    sign = np.where(s >= 0, F(1), F(-1))
    agree = (np.sign(p) == sign).astype(F)
    mixed = sum_models(p * agree, dtype)
    if normalize:
        div = sum_models(np.stack([a * v for a, v in zip(agree, w)]), dtype)
        mixed = R(mixed / np.where(div == 0, F(1), div))
    if lam != 1:
        mixed = R(mixed * F(lam))
    return R(base + mixed)


def main():
    import yaml
    here = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/goldens/mergekit"))
    os.chdir(here)
    bad = 0
    for name in sys.argv[1:] or ["dare_ties_seed", "dare_ties_seed_7", "dare_ties_deep", "dare_ties_f32", "dare_ties_f16",
                                 "dare_ties_no_rescale", "dare_ties_qwen2", "dare_ties_density_one"]:
        r = yaml.safe_load(open(f"recipes/{name}.yml"))
        want = json.load(open(f"expected/{name}.json"))
        dtype = NAME[r["dtype"]]
        base = {k: ROUND[dtype](v[0]) for k, v in read(r["base_model"]).items()}
        tuned = [m for m in r["models"] if m["model"] != r["base_model"]]
        data = [{k: ROUND[dtype](v[0]) for k, v in read(m["model"]).items()} for m in tuned]
        layers = want["config"]["num_hidden_layers"]
        par = r.get("parameters") or {}
        draws, got = Draws(want["seed"]), {}
        for k in sorted(base):
            hit = re.search(r"\.layers\.(\d+)\.", k)
            t = int(hit.group(1)) / (layers - 1) if hit else 0
            got[k] = dare_ties(base[k], [d[k] for d in data], [gradient(m["parameters"]["weight"], t) for m in tuned],
                               [gradient(m["parameters"]["density"], t) for m in tuned], dtype, draws,
                               par.get("rescale", True), par.get("normalize", False), par.get("lambda", 1.0))
        wrong = [t["name"] for t in want["tensors"]
                 if hashlib.sha256(raw(got[t["name"]], dtype)).hexdigest() != t["sha256"]]
        bad += bool(wrong)
        print(f"{name}: {len(want['tensors']) - len(wrong)} of {len(want['tensors'])} tensors equal", wrong[:4])
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
