#!/usr/bin/env python3
"""Prints the tables of src/arithmetic/*_test.cc that hold what torch and mergekit make of made-up numbers.

    OMP_NUM_THREADS=1 python3 tools/goldens/torch_tables.py [norm softmax log divergence permutation topk variance
                                                             model_stock sce arcee_fusion]

Needs torch 2.15 (CPU with AVX2) and mergekit 0.1.4, whose methods run unchanged, on tensors in memory. The numbers are
those of src/arithmetic/testing/torch_numbers.h; digests are the first 16 digits of SHA-256 over f32 numbers.
"""
import hashlib, sys
import numpy as np, torch

torch.set_num_threads(1)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
f4 = np.float32


def numbers(count, seed):
    # seed = seed * 6364136223846793005 + 1442695040888963407, modulo 2^64, all at once
    powers = np.multiply.accumulate(np.full(count, 6364136223846793005, np.uint64))
    sums = np.add.accumulate(np.concatenate(([np.uint64(1)], powers[:-1])))
    seeds = powers * np.uint64(seed) + sums * np.uint64(1442695040888963407)
    fractions = (seeds >> np.uint64(40)).astype(np.float64) * 2.0**-24 - 0.5
    return np.ldexp(fractions, (seeds >> np.uint64(33) & np.uint64(7)).astype(np.int64) - 4).astype(f4)


def model(dtype, count, k):
    base = torch.tensor(numbers(count, count) * f4(2.0**-4)).to(dtype)
    if k == 0:
        return base
    return (base.float() + torch.tensor(numbers(count, count + k) * f4(2.0**-7))).to(dtype)


def digest(tensor):
    return hashlib.sha256(tensor.float().contiguous().numpy().tobytes()).hexdigest()[:16]


def bits(tensor):
    return f"0x{int(tensor.float().view(torch.int32).item()) & 0xFFFFFFFF:08x}"


def rows(name, entries):
    print(f"// {name}")
    for e in entries:
        print("    {" + ", ".join(e) + "},")


def quoted(values):
    return "{" + ", ".join(f'"{v}"' for v in values) + "}"


def norm():
    counts = (1, 3, 4, 7, 8, 9, 15, 16, 20, 31, 64, 77, 1000, 4099, 65536, 70001, 300000)
    rows("norm", [[str(n), "{" + ", ".join(bits(torch.norm(torch.tensor(numbers(n, n)).to(t), dim=-1))
                                           for t in TYPES) + "}"] for n in counts])


def softmax():
    counts = (1, 3, 7, 8, 9, 15, 16, 20, 31, 88, 1000, 4099)
    rows("softmax", [[str(n), quoted(digest(torch.softmax(torch.tensor(numbers(n, n)).to(t), dim=-1))
                                     for t in TYPES)] for n in counts])


def log():
    for t in TYPES[1:]:
        every = torch.arange(1, 0x7C00 if t == torch.float16 else 0x7F80, dtype=torch.int16).view(t)
        print("// log", t, digest(torch.log(every)))
    some = [0.5078125 + i / 64 + 1 / 1024 for i in range(0, 64, 3)]
    rows("log f32", [[f"{x!r}f", bits(torch.log(torch.tensor([x])))] for x in some])


def divergence():
    entries = []
    for n in (1, 7, 32, 88, 100, 4096):
        of = []
        for t in TYPES:
            b, x = model(t, n, 0).view(1, -1), model(t, n, 1).view(1, -1)
            p, q = (torch.softmax(v, dim=-1) + 1e-8 for v in (x, b))
            of.append(bits(torch.sum(p * torch.log(p / q), dim=-1)))
        entries.append([str(n), "{" + ", ".join(of) + "}"])
    rows("divergence", entries)


def permutation():
    entries = []
    for n, take in ((1, 1), (2, 2), (5, 5), (1000, 1000), (1000, 10), (1048576, 1000000), (214748364, 1000)):
        torch.manual_seed(42)
        p = torch.randperm(n)[:take].numpy().astype(np.uint64)
        q = torch.randint(0, 2**20, (1,)).item()
        entries.append([f"{n}", str(take), f'"{hashlib.sha256(p.tobytes()).hexdigest()[:16]}"', str(q)])
    rows("permutation", entries)


def topk():
    entries = []
    for n, k in ((10, 3), (100, 1), (1000, 15), (1000, 16), (1000, 700), (70001, 20000), (70001, 900)):
        # few different numbers
        v = torch.tensor(np.round(np.abs(numbers(n, n)) * 16)).float()
        mask = torch.zeros(n)
        mask[torch.topk(v, k=k, largest=True)[1]] = 1
        entries.append([str(n), str(k), f'"{digest(mask)}"'])
    rows("topk", entries)


def variance():
    entries = []
    for n, m in ((1000, 1), (1000, 2), (70001, 3), (5000, 5), (5000, 8)):
        entries.append([str(n), str(m), quoted(
            digest(torch.var(torch.stack([torch.tensor(numbers(n, n + k)).to(t) for k in range(m)]), dim=0, unbiased=False))
            for t in TYPES)])
    rows("variance", entries)


class Weight:
    name, optional, is_embed = "w", False, False


def model_stock():
    from mergekit.merge_methods.model_stock import ModelStockMergeTask
    entries = []
    for shape, m, filter_wise in (((70001,), 2, 0), ((300, 1000), 3, 0), ((300, 1000), 5, 0), ((97, 88), 2, 1),
                                  ((97, 88), 5, 1), ((33, 5000), 4, 1), ((3, 70000), 2, 1), ((1000,), 3, 1),
                                  ((40, 1), 5, 1), ((2, 3, 50), 2, 1), ((3000011,), 3, 0)):
        n = int(np.prod(shape))
        of = []
        for t in TYPES:
            refs = [f"m{k}" for k in range(m + 1)]
            tensors = {r: model(t, n, k).view(shape) for k, r in enumerate(refs)}
            task = ModelStockMergeTask.model_construct(base_model="m0", weight_info=Weight, filter_wise=bool(filter_wise))
            of.append(digest(task.execute(tensors=tensors)))
        entries.append(["{" + ", ".join(map(str, shape)) + "}", str(m), str(filter_wise), quoted(of)])
    rows("model_stock", entries)


def sce():
    from mergekit.merge_methods.sce import sce_merge
    entries = []
    for shape, m, share in (((1000,), 1, 1.0), ((97, 88), 3, 1.0), ((97, 88), 3, 0.3), ((97, 88), 3, 0.01),
                            ((97, 88), 3, 0.0), ((97, 88), 1, 0.5), ((97, 88), 3, 1e-6), ((300, 1000), 5, 0.5),
                            ((2, 3, 50), 6, 0.7), ((70001,), 2, 0.999)):
        n = int(np.prod(shape))
        of = []
        for t in TYPES:
            tensors = [model(t, n, k).view(shape) for k in range(1, m + 1)]
            merged = sce_merge(tensors=tensors, base_tensor=model(t, n, 0).view(shape), select_topk=share)
            # where no position is kept it has a dimension more: the base for each model
            of.append(digest(merged if merged.shape == shape else merged[0]))
        entries.append(["{" + ", ".join(map(str, shape)) + "}", str(m), str(share), quoted(of)])
    rows("sce", entries)


def arcee_fusion():
    from mergekit.merge_methods.arcee_fusion import ArceeFusionMergeTask
    entries = []
    for shape in ((1000,), (97, 88), (33, 5000), (2, 3, 50), (70001,), (40, 1), (1024, 1024), (100, 10007)):
        n = int(np.prod(shape))
        of = []
        for t in TYPES:
            torch.manual_seed(42)
            tensors = {"m0": model(t, n, 0).view(shape), "m1": model(t, n, 1).view(shape)}
            task = ArceeFusionMergeTask.model_construct(base_model="m0", weight_info=Weight)
            of.append(digest(task.execute(tensors=tensors)))
        entries.append(["{" + ", ".join(map(str, shape)) + "}", quoted(of)])
    rows("arcee_fusion", entries)


TABLES = (norm, softmax, log, divergence, permutation, topk, variance, model_stock, sce, arcee_fusion)
for table in TABLES:
    if not sys.argv[1:] or table.__name__ in sys.argv[1:]:
        table()
