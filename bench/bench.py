#!/usr/bin/env python3
"""Measures sluice beside the limits of the machine and writes bench/RESULTS.md.

Items: 1 merge of 8 models from disk, 2 the same work by mergekit, 3 digest and verify, 4 peak memory against size, 5 kernels alone, 6 products and
attention alone, 7 prompt tokens a second, 8 a model larger than its budget, 9 decoders alone, 10 opening a folder of many shards,
11 tokenizers, 12 every method beside mergekit, 13 fingerprints, 14 verification beside other tools, 15 behaviour.
Every figure from disk is alternated with a raw baseline (bench_raw_io) in the same run, with the page cache dropped before each;
medians are reported. Models are synthetic, made by sluice_synth in build/bench-data or $SLUICE_BENCH_DIR, and kept
for the next run until --clean.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import random
import shutil
import statistics
import struct
import subprocess
import sys
import time

import bench_behaviour
import bench_methods
import bench_verification

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(os.environ.get("SLUICE_BIN", ROOT / "build" / "release")).resolve()
DATA = pathlib.Path(os.environ.get("SLUICE_BENCH_DIR", ROOT / "build" / "bench-data"))
RESULTS = ROOT / "bench" / "RESULTS.md"
PEER = ROOT / "bench" / "mergekit_peer.py"
WEIGHTS = [0.14, 0.14, 0.14, 0.22, 0.14, 0.14, 0.08]  # of a published merge; demo/recipe.yml.in has all of it
DENSITIES = [0.62, 0.62, 0.52, 0.62, 0.52, 0.52, 0.08]


def say(text):
    print(f"bench: {text}", flush=True)


class Run:
    """One finished command: wall and CPU seconds, peak resident bytes, what it printed as JSON."""

    def __init__(self, *command, allowed=(0,)):
        kept = DATA / "stdout"
        # As in a shell, so that the figures are of the program and not of this script.
        with open(kept, "wb") as out:
            start = time.perf_counter()
            pid = os.posix_spawnp(str(command[0]), [str(c) for c in command], os.environ,
                                  file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
            _, status, usage = os.wait4(pid, 0)
            self.seconds = time.perf_counter() - start
        text = kept.read_text(encoding="utf-8")
        kept.unlink()
        code = os.waitstatus_to_exitcode(status)
        if code not in allowed:
            sys.exit(f"bench: '{' '.join(map(str, command))}' ended with {code}: {text.strip()[:1000]}")
        self.user_seconds = usage.ru_utime
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.peak_bytes = usage.ru_maxrss * 1024
        self.said = json.loads(text) if text.strip().startswith("{") else {"text": text}


def drop_cache(folder):
    """Files that are written back and unused leave the page cache; no rights needed."""
    os.sync()
    for path in folder.rglob("*.safetensors"):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def raw(files, write=None, passes=1):
    drop_cache(DATA)
    extra = ["--write", write, "--passes", str(passes)] if write else []
    return Run(BIN / "bench_raw_io", *extra, *files).said


def sluice(command, *args, allowed=(0,), cold=True):
    if cold:
        drop_cache(DATA)
    return Run(BIN / "sluice", command, *args, "--json", "--quiet", allowed=allowed)


def synth(*args):
    Run(BIN / "sluice_synth", *args, "--quiet")


def made(name, recipe, make):
    """DATA/name, as `recipe` describes it: kept from an earlier run where that had the same description, else made."""
    folder = DATA / name
    stamp = folder / "made-by"
    if not stamp.is_file() or stamp.read_text() != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making {name} ({recipe})")
        make(folder)
        stamp.write_text(recipe)
    return folder


def model(name, *shape):
    return made(name, " ".join(shape), lambda folder: synth("model", *shape, "-o", folder))


def tune(name, base, seed):
    return made(name, f"update with seed {seed} of {(base / 'made-by').read_text()}",
                lambda folder: synth("finetune", base, "-o", folder, "--seed", str(seed)))


def resharded(name, base):
    return made(name, f"in shards of 1 GB, {(base / 'made-by').read_text()}",
                lambda folder: sluice("convert", base, "-o", folder, "--out-shard-size", "1GB"))


def family(prefix, shape):
    base = model(f"{prefix}-base", *shape)
    return [base] + [tune(f"{prefix}-tune{i}", base, i) for i in range(1, 8)]


def need_disk(size_bytes, what):
    DATA.mkdir(parents=True, exist_ok=True)
    have = shutil.disk_usage(DATA).free + sum(p.stat().st_size for p in DATA.rglob("*") if p.is_file())
    if have < size_bytes:
        sys.exit(f"bench: {what} needs {size_bytes / 1e9:.0f} GB in {DATA}, {have / 1e9:.0f} GB are free; "
                 "try --small, or another disk in SLUICE_BENCH_DIR")


def recipe(name, models, rescale):
    lines = ["models:", f"  - model: {models[0]}"]
    for folder, weight, density in zip(models[1:], WEIGHTS, DENSITIES):
        lines += [f"  - model: {folder}", "    parameters:", f"      weight: {weight}", f"      density: {density}"]
    lines += ["merge_method: dare_ties", f"base_model: {models[0]}", "parameters:", "  int8_mask: true"]
    if rescale is not None:
        lines.append(f"  rescale: {rescale}")
    path = DATA / f"{name}.yml"
    path.write_text("\n".join(lines + ["dtype: bfloat16", ""]))
    return path


def weights_of(folder):
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        sys.exit(f"bench: {folder} should hold one file of weights")
    return files[0]


def median(values):
    return statistics.median(values)


def spread(values, digits=2):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


# 1. The merge from disk.
MERGES = [("density, 256 MiB", "density", "256MiB", 1), ("density, 64 MiB", "density", "64MiB", 1),
          ("true, 256 MiB", "true", "256MiB", 2), ("true, 64 MiB", "true", "64MiB", 2)]


def merges(args):
    shape = args.big
    need_disk(args.big_bytes * 9.5, "item 1")
    models = family("big", shape)
    files = [weights_of(m) for m in models]
    size = files[0].stat().st_size
    out = DATA / "merged"
    rows = {name: [] for name, *_ in MERGES}
    raws = {1: [], 2: []}
    for rep in range(args.reps):
        for passes in (1, 2):
            say(f"repetition {rep + 1}: raw, {passes} x 8 in, 1 out")
            raws[passes].append(raw(files, DATA / "raw.out", passes))
            for name, rescale, budget, needed in MERGES:
                if needed != passes:
                    continue
                say(f"repetition {rep + 1}: merge, rescale {name}")
                path = recipe("big", models, rescale)
                run = sluice("merge", path, "-o", out, "--force", "--max-memory", budget)
                shutil.rmtree(out)
                rows[name].append({"seconds": run.seconds, "cpu": run.cpu_seconds, "peak": run.peak_bytes,
                                   "read": run.said["bytes_read"], "raw": raws[passes][-1]["seconds"]})
    rates = kernel_rates()
    values = {"dare_ties, base + 7": 1, "bf16 to f32": 9, "f32 to bf16": 1, "count of NaNs": 1, "sha256": 2}
    l1 = {"L1 of all and masked, random mask": 7, "bf16 to f32": 8}
    elements = size / 2
    arithmetic = {1: elements * nanoseconds(rates, values, read_bytes=16) / 1e9 / os.cpu_count()}
    arithmetic[2] = arithmetic[1] + elements * nanoseconds(rates, l1, read_bytes=16) / 1e9 / os.cpu_count()
    return {"model_bytes": size, "shape": " ".join(shape), "rows": rows, "raws": raws, "cores": os.cpu_count(), "arithmetic": arithmetic}


def show_merges(r):
    size = r["model_bytes"]
    yield f"dare_ties, base + 7, bf16, {r['shape']}: {size / 1e9:.2f} GB a model, 8 in and 1 out, page cache dropped before each run."
    yield ""
    for passes, runs in r["raws"].items():
        rates = [x["gb_per_second"] for x in runs]
        yield (f"- Raw, each block read {'once' if int(passes) == 1 else 'twice'} ({runs[0]['mode']}, O_DIRECT "
               f"{'on' if runs[0]['direct'] else 'off'}): {spread(rates)} GB/s, {spread([x['seconds'] for x in runs], 1)} s")
    yield ""
    for passes, what in ((1, "values"), (2, "L1 and values")):
        yield (f"- Arithmetic alone ({what}): {r['arithmetic'][str(passes)]:.1f} s on {r['cores']} cores: the kernels (casts, dare_ties, NaNs, digest), each at its "
               "rate from its cache, and the weights read once from memory, one core at a time; bench_kernels in the same run")
    yield ""
    yield "| rescale, budget | seconds | of raw | of the limit | output MB/s | read, in models | cores | peak MiB | limit beside it |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (name, _, _, passes) in MERGES:
        runs = r["rows"][name]
        ratios = [x["raw"] / x["seconds"] for x in runs]
        floor = r["arithmetic"][str(passes)]
        limits = [max(x["raw"], floor) / x["seconds"] for x in runs]
        what = "arithmetic" if floor > median([x["raw"] for x in runs]) else "one read" if passes == 1 else "two reads"
        yield (f"| {name} | {spread([x['seconds'] for x in runs], 1)} | {spread(ratios)} | {spread(limits)} | "
               f"{median([size / x['seconds'] / 1e6 for x in runs]):.0f} | {median([x['read'] / size for x in runs]):.2f} | "
               f"{median([x['cpu'] / x['seconds'] for x in runs]):.2f} | {max(x['peak'] for x in runs) / 2**20:.0f} | "
               f"{what}; goal 0.90 of raw |")
    yield ""
    yield ("`of raw` is the raw run's seconds over the merge's, of the same repetition; the merge's include start, the digest of the "
           "output and the final sync. `of the limit`: of the longer of raw and arithmetic. Where the disk is faster than the cores, "
           "arithmetic is the limit, and 0.90 of raw is out of reach.")


# 2. mergekit.
def peers(args):
    venv = args.mergekit_venv
    if args.mergekit:
        subprocess.run([sys.executable, PEER, "setup", "--venv", venv], check=True)
    elif subprocess.run([sys.executable, PEER, "found", "--venv", venv], check=False).returncode != 0:
        say("item 2 left out: mergekit is not set up; bench/run.sh --mergekit fetches it from PyPI (6 GB on disk)")
        return None
    models = family("smol", ["--shape", "smollm2"])
    size = weights_of(models[0]).stat().st_size
    path = recipe("smol", models, None)
    out = DATA / "merged-smol"
    ours, theirs, raws = [], [], []
    for rep in range(args.reps):
        for folder in models:  # into the page cache
            with open(weights_of(folder), "rb") as file:
                while file.read(1 << 24):
                    pass
        say(f"repetition {rep + 1}: sluice, page cache warm")
        run = sluice("merge", path, "-o", out, "--force", "--threads", "2", "--max-memory", args.small_budget, cold=False)
        ours.append({"seconds": run.seconds, "cpu": run.cpu_seconds, "peak": run.peak_bytes})
        say(f"repetition {rep + 1}: mergekit, page cache warm")
        theirs.append(Run(PEER, "merge", path, out, "--threads", "2", "--venv", venv).said)
        shutil.rmtree(out)
    return {"model_bytes": size, "budget": args.small_budget, "ours": ours, "theirs": theirs}


def show_peers(r):
    size = r["model_bytes"]
    versions = r["theirs"][0]["versions"]
    yield (f"dare_ties, base + 7, bf16, mergekit's defaults (`rescale: true`), SmolLM2-135M's shapes ({size / 1e6:.0f} MB a model) in the page cache, two "
           f"threads each. mergekit {versions['mergekit']}, torch {versions['torch']}, transformers {versions['transformers']}, CPU; "
           f"its imports and start are not counted, sluice's start is. sluice with `--max-memory {r['budget']}`.")
    yield ""
    yield "| | seconds | output MB/s | CPU seconds | peak MiB |"
    yield "|---|---|---|---|---|"
    ours, theirs = r["ours"], r["theirs"]
    o, t = median([x["seconds"] for x in ours]), median([x["seconds"] for x in theirs])
    op, tp = max(x["peak"] for x in ours), max(x["peak_memory_bytes"] for x in theirs)
    yield (f"| sluice | {spread([x['seconds'] for x in ours])} | {size / o / 1e6:.0f} | "
           f"{median([x['cpu'] for x in ours]):.1f} | {op / 2**20:.0f} |")
    yield (f"| mergekit | {spread([x['seconds'] for x in theirs])} | {size / t / 1e6:.1f} | "
           f"{median([x['cpu_seconds'] for x in theirs]):.1f} | {tp / 2**20:.0f} "
           f"(of which {theirs[0]['memory_after_imports_bytes'] / 2**20:.0f} after the imports) |")
    yield ""
    yield f"**{t / o:.0f} times the speed in 1/{tp / op:.0f} of the memory** (goal: 30 times, a tenth)."


# 3. Digest and verify.
def digests(args):
    need_disk(args.big_bytes * 10.5, "item 3")
    base = model("big-base", *args.big)
    other = tune("big-tune1", base, 1)
    copy = resharded("big-copy", base)
    size = weights_of(base).stat().st_size
    rates = kernel_rates()
    cases = {  # operands, streams, arithmetic of an element, exit code
        "digest": ("digest", [base], 1, {"sha256": 2}, (0,)),
        "verify, equal, other shards": ("verify", [base, copy, "--level", "tensors"], 2,
                                        {"sha256": 2, "bf16 to f32": 1, "difference of an array and itself": 1}, (0,)),
        "verify, all tensors differ": ("verify", [base, other, "--level", "tensors"], 2,
                                       {"sha256": 4, "bf16 to f32": 2, "difference of two": 1}, (1,)),
    }
    rows = {name: [] for name in cases}
    for rep in range(args.reps):
        for name, (command, operands, streams, work, allowed) in cases.items():
            say(f"repetition {rep + 1}: raw, {streams} in")
            files = [weights_of(base), weights_of(other)][:streams]
            limit = raw(files)
            say(f"repetition {rep + 1}: {name}")
            run = sluice(command, *operands, "--max-memory", "256MiB", allowed=allowed)
            rows[name].append({"seconds": run.seconds, "cpu": run.cpu_seconds, "peak": run.peak_bytes, "raw": limit["seconds"],
                               "streams": streams, "hashing": size / 2 * work["sha256"] / rates["sha256"] / os.cpu_count(),
                               "arithmetic": size / 2 * nanoseconds(rates, work, 2 * streams) / 1e9 / os.cpu_count()})
    return {"model_bytes": size, "hash_rate": rates["sha256"] / 1e9, "cores": os.cpu_count(), "rows": rows}


def show_digests(r):
    size, rate = r["model_bytes"], r["hash_rate"] * r["cores"]
    yield (f"Checkpoints of {size / 1e9:.2f} GB from disk at 256 MiB, page cache dropped. SHA-256 of 1 MiB chunks runs at {r['hash_rate']:.2f} GB/s a core "
           f"({rate:.2f} GB/s on {r['cores']}), measured by bench_kernels in the same run. Bytes that are equal on both sides are hashed once.")
    yield ""
    yield "| | seconds | GB/s read | raw read GB/s | hashing alone, s | all arithmetic, s | of raw or hashing | of the limit | cores | peak MiB |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, runs in r["rows"].items():
        total = size * runs[0]["streams"]
        goals = [max(x["raw"], x["hashing"]) / x["seconds"] for x in runs]
        limits = [max(x["raw"], x["arithmetic"]) / x["seconds"] for x in runs]
        yield (f"| {name} | {spread([x['seconds'] for x in runs])} | {median([total / x['seconds'] / 1e9 for x in runs]):.2f} | "
               f"{median([total / x['raw'] / 1e9 for x in runs]):.2f} | {runs[0]['hashing']:.2f} | {runs[0]['arithmetic']:.2f} | "
               f"{spread(goals)} | {spread(limits)} | "
               f"{median([x['cpu'] / x['seconds'] for x in runs]):.2f} | {max(x['peak'] for x in runs) / 2**20:.0f} |")
    yield ""
    yield ("`of raw or hashing`: the longer of the raw read and the hashing alone, over what it took (goal 0.90). `all arithmetic`: hashing, casts and sums of "
           "differences at their rates from their cache, and the weights read once from memory by one core; `of the limit`: the longer of that and raw.")


# 4. Peak memory against size.
def peaks(args):
    rows = []
    for layers in args.layers:
        shape = ["--shape", "smollm2", "--layers", str(layers)]
        base = model(f"flat{layers}-base", *shape)
        other = tune(f"flat{layers}-tune", base, 1)
        path = DATA / "flat.yml"
        path.write_text(f"models:\n  - model: {base}\n  - model: {other}\n    parameters: {{weight: 0.5, density: 0.5}}\n"
                        f"merge_method: dare_ties\nbase_model: {base}\ndtype: bfloat16\n")
        out = DATA / "merged-flat"
        row = {"bytes": weights_of(base).stat().st_size, "tensors": 0}
        for budget in ("64MiB", "256MiB"):
            say(f"peak memory: {layers} layers, {budget}")
            row[f"digest {budget}"] = sluice("digest", base, "--max-memory", budget).peak_bytes
            row[f"verify {budget}"] = sluice("verify", base, other, "--level", "tensors", "--max-memory", budget,
                                             allowed=(1,)).peak_bytes
            row[f"merge {budget}"] = sluice("merge", path, "-o", out, "--force", "--max-memory", budget).peak_bytes
            shutil.rmtree(out)
        rows.append(row)
        for folder in (base, other):
            shutil.rmtree(folder)
    return {"rows": rows}


def show_peaks(r):
    yield "SmolLM2's shapes with more and more layers; peak resident of the whole process (the kernel's), in MiB."
    yield ""
    keys = [k for k in r["rows"][0] if k not in ("bytes", "tensors")]
    yield "| checkpoint | " + " | ".join(keys) + " |"
    yield "|---|" + "---|" * len(keys)
    for row in r["rows"]:
        yield f"| {row['bytes'] / 1e9:.2f} GB | " + " | ".join(f"{row[k] / 2**20:.0f}" for k in keys) + " |"


# 5. Kernels.
def kernels(_args):
    say("kernels alone")
    return Run(BIN / "bench_kernels", "--json").said


def show_kernels(r):
    memory = r["memory_read_bytes_per_second"]
    yield (f"One core, data in its caches; the core reads memory at {memory / 1e9:.1f} GB/s in the same run. Elements are those of the "
           "output (bytes for sha256). The goal is what a prototype reached on a Zen 3 core.")
    yield ""
    yield "| kernel | M elements/s | GB/s in and out | of the memory's rate | goal, M/s |"
    yield "|---|---|---|---|---|"
    for k in r["kernels"]:
        goal = f"{k['goal'] / 1e6:.0f}" if k["goal"] else ""
        yield (f"| {k['name']} | {k['elements_per_second'] / 1e6:.0f} | {k['bytes_per_second'] / 1e9:.1f} | "
               f"{k['bytes_per_second'] / memory:.2f} | {goal} |")


def kernel_rates():
    """Elements a second on one core of each kernel, by bench_kernels, now; "memory": bytes a second that one core reads."""
    say("the kernels alone")
    said = Run(BIN / "bench_kernels", "--json").said
    return {"memory": said["memory_read_bytes_per_second"]} | {k["name"]: k["elements_per_second"] for k in said["kernels"]}


def nanoseconds(rates, work, read_bytes):
    """Of one element on one core: `work` is how often each kernel is at it, read_bytes come from memory."""
    return 1e9 * (sum(times / rates[name] for name, times in work.items()) + read_bytes / rates["memory"])


# 6. Products and attention.
def products(_args):
    say("products and attention alone")
    return Run(BIN / "bench_products", "--json").said


def show_products(r):
    yield (f"One core, beside a loop of nothing but fused multiply-adds in the same run: {r['fma_flops_per_second'] / 1e9:.0f} GFLOP/s. Each "
           "figure is GFLOP/s and its share of that loop's; weights are decoded from their encoding inside the product, to f32. The goal at "
           "512 tokens is 0.70 to 0.80.")
    yield ""
    rows = {}
    for f in r["figures"]:
        if f["kernel"] == "product":
            rows.setdefault((f["columns"], f["encoding"]), {})[f["tokens"]] = f
    tokens = sorted({t for row in rows.values() for t in row})
    yield "| K | weights | " + " | ".join(f"{t} tokens" for t in tokens) + " |"
    yield "|---|---|" + "---|" * len(tokens)
    for (columns, encoding), row in rows.items():
        cells = [f"{row[t]['flops_per_second'] / 1e9:.0f} ({row[t]['of_fma']:.2f})" for t in tokens]
        yield f"| {columns} | {encoding} | " + " | ".join(cells) + " |"
    yield ""
    yield "| kernel | tokens | GFLOP/s | of FMA |"
    yield "|---|---|---|---|"
    for f in r["figures"]:
        if f["kernel"] != "product":
            yield f"| {f['kernel']} | {f['tokens']} | {f['flops_per_second'] / 1e9:.0f} | {f['of_fma']:.2f} |"


# 7. The forward pass.
FORWARD_PEER = ROOT / "bench" / "forward_peer.py"


def write_ids(name, num_sequences, num_tokens, vocabulary=49152):
    """Token ids for --ids: a tensor of I64, [num_sequences, num_tokens]."""
    values = [(7919 * i + 11 + 101 * s) % vocabulary for s in range(num_sequences) for i in range(num_tokens)]
    header = json.dumps({"input_ids": {"dtype": "I64", "shape": [num_sequences, num_tokens], "data_offsets": [0, 8 * len(values)]}}).encode()
    header += b" " * (-len(header) % 8)
    path = DATA / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack(f"<{len(values)}q", *values))
    return path


def forward_peer(*command, **options):
    return subprocess.run([FORWARD_PEER, *command], check=False, **options)


def forward(args):
    """SmolLM2 in each encoding that there is, 512 tokens at a time, logits of the last. (model, encoding, who runs it beside us)"""
    base = model("forward-bf16", "--shape", "smollm2")
    models = [(base, "BF16", "transformers")]
    f32 = made("forward-float32", f"as float32, {(base / 'made-by').read_text()}", lambda folder: sluice("convert", base, "-o", folder, "--dtype", "float32"))
    models.append((f32, "F32", "transformers"))
    has = {peer: forward_peer("found", peer, "--venv", args.mergekit_venv).returncode == 0 for peer in ("transformers", "llama-cpp")}
    for peer, how in (("transformers", "bench/mergekit_peer.py setup"), ("llama-cpp", "bench/forward_peer.py setup")):
        if not has[peer]:
            say(f"{peer} is not set up ({how}): left out")
    gguf = subprocess.run([ROOT / "scripts" / "smollm2.sh"], capture_output=True, text=True, check=False)
    if gguf.returncode == 0:
        smollm2 = ROOT / gguf.stdout.strip().splitlines()[-1]
        models.append((smollm2, "Q4_1", "llama-cpp"))
        for name in ("Q8_0", "F16", "BF16", "F32") if has["llama-cpp"] else ():
            path = DATA / f"smollm2-{name}.gguf"
            if not path.is_file():
                forward_peer("quantize", smollm2, path, name, "--venv", args.mergekit_venv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            models.append((path, name, "llama-cpp"))
    one = write_ids("ids", 4, 512)
    rows = []
    for threads in (1, 2):
        for path, name, peer in models:
            row = {"encoding": name, "peer": peer, "threads": threads, "ours": [], "theirs": [], "peak": 0}
            for rep in range(args.reps):
                say(f"repetition {rep + 1}: {name}, {threads} threads, beside {peer}")
                run = sluice("logits", path, "--ids", one, "-o", DATA / "last.safetensors", "--last", "--force", "--threads", str(threads), cold=False)
                row["ours"].append(4 * 512 / run.seconds)
                row["peak"] = max(row["peak"], run.peak_bytes)
                if has[peer]:
                    how = ["--gguf"] if peer == "llama-cpp" else ["--dtype", {"F32": "float32", "BF16": "bfloat16"}[name]]
                    said = Run(FORWARD_PEER, "run", path, *how, "--venv", args.mergekit_venv, "--threads", str(threads)).said
                    row["theirs"].append(said["tokens_per_second"])
                    row["version"] = said["version"]
            rows.append(row)
    fma = Run(BIN / "bench_products", "--json").said["fma_flops_per_second"]
    return {"rows": rows, "fma": fma}


def show_forward(r):
    versions = sorted({row["version"] for row in r["rows"] if "version" in row}) or ["no peer found"]
    flops = 2 * (30 * (576 * 576 * 2 + 2 * 576 * 192 + 3 * 576 * 1536))
    yield (f"SmolLM2-135M, 4 sequences of 512 tokens, logits of each one's last token; sluice's start, reading and writing are counted, the peers' loading is not "
           f"({'; '.join(versions)}; their own CPU kernels, 512 tokens). Beside llama.cpp the models are GGUF files of its making; it rounds activations to 8 bits where weights "
           f"are in blocks, sluice computes in f32. The limit beside it: the weights' products of a token "
           f"({flops / 1e6:.0f} MFLOP, without attention and head) at the rate of a loop of fused multiply-adds, {r['fma'] / 1e9:.0f} GFLOP/s a core.")
    yield ""
    yield "| weights | threads | sluice, tokens/s | peak MiB | of the limit | peer | its tokens/s | ratio |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in r["rows"]:
        ours = median(row["ours"])
        theirs = f"{row['peer']} | {median(row['theirs']):.0f} | {ours / median(row['theirs']):.2f}" if row["theirs"] else " | | "
        yield (f"| {row['encoding']} | {row['threads']} | {spread(row['ours'], 0)} | {row['peak'] / 2**20:.0f} | "
               f"{ours * flops / (r['fma'] * row['threads']):.2f} | {theirs} |")


# 8. A model that is larger than its budget.
SLOW_DISK = 1.6e9  # bytes a second, of an ordinary NVMe disk


@contextlib.contextmanager
def disk_held_at(bytes_per_second):
    """What is started meanwhile reads DATA's disk no faster (the blkio cgroup, root needed). Yields whether that could be done."""
    root = pathlib.Path("/sys/fs/cgroup")
    device = os.stat(DATA).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    if (root / "blkio").is_dir():
        group, limit, home = root / "blkio" / "sluice-bench", ("blkio.throttle.read_bps_device", f"{number} {bytes_per_second:.0f}"), root / "blkio"
    else:
        group, limit, home = root / "sluice-bench", ("io.max", f"{number} rbps={bytes_per_second:.0f}"), root
    try:
        group.mkdir(exist_ok=True)
        (group / limit[0]).write_text(limit[1])
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        say(f"the disk cannot be held at a lower rate here ({error}): left out")
        yield False
        return
    try:
        yield True
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def larger(args):
    """Many small layers and fewer of a usual size, budgets of a quarter of the bytes and far less, a few tokens and many."""
    layers = args.layers[-1]
    small = model(f"flat{layers}-base", "--shape", "smollm2", "--layers", str(layers))
    wide_layers = max(2, layers * 44 // 557)
    wide = model(f"wide{wide_layers}", "--shape", "tinyllama", "--layers", str(wide_layers))
    quarter = {folder: f"{weights_of(folder).stat().st_size // 4 // 2**20}MiB" for folder in (small, wide)}
    fma = Run(BIN / "bench_products", "--json").said["fma_flops_per_second"]
    rows = []

    def measure(folder, tokens, budget, disk):
        products = layers * (576 * 576 * 2 + 2 * 576 * 192 + 3 * 576 * 1536) if folder == small else wide_layers * (2048 * 2048 * 2 + 2 * 2048 * 256 + 3 * 2048 * 5632)
        row = {"model": "small layers" if folder == small else "wide layers", "tokens": tokens, "budget": budget, "disk": disk, "ours": [], "raw": [], "peak": 0,
               "flops": 2 * tokens * products, "bytes": weights_of(folder).stat().st_size}
        ids = write_ids(f"ids{tokens}", 1, tokens, vocabulary=32000)
        for rep in range(args.reps):
            say(f"repetition {rep + 1}: {row['model']}, {tokens} tokens, {budget}, disk {disk}")
            row["raw"].append(raw([weights_of(folder)])["seconds"])
            run = sluice("logits", folder, "--ids", ids, "-o", DATA / "last.safetensors", "--last", "--force", "--max-memory", budget)
            row["ours"].append(run.seconds)
            row["peak"] = max(row["peak"], run.peak_bytes)
            row["bytes_read"] = run.said["bytes_read"]
        rows.append(row)

    for folder, tokens, budget in ((small, 16, "64MiB"), (small, 128, "64MiB"), (small, 512, "64MiB"), (small, 512, quarter[small]),
                                   (wide, 16, quarter[wide]), (wide, 128, quarter[wide]), (wide, 512, quarter[wide])):
        measure(folder, tokens, budget, "as it is")
    with disk_held_at(SLOW_DISK) as held:
        for folder, tokens, budget in ((small, 16, "64MiB"), (small, 64, "64MiB"), (wide, 16, quarter[wide]), (wide, 64, quarter[wide])) if held else ():
            measure(folder, tokens, budget, f"{SLOW_DISK / 1e9} GB/s")
    return {"rows": rows, "fma": fma, "layers": layers, "wide_layers": wide_layers}


def show_larger(r):
    yield (f"Cold, logits of the last token, two threads, the whole process counted; bf16. Small layers: SmolLM2's shapes, {r['layers']} layers; wide layers: TinyLlama's, {r['wide_layers']}. "
           f"T is the longer of reading the file raw and the layers' products at {r['fma'] / 1e9:.0f} GFLOP/s a core. The embedding's rows that no token wants are not read. "
           "Where the disk is the limit the goal is 0.9: this machine's reads faster than 16 tokens can be computed (one tile of tokens runs at 0.6 of the loop, item 6), "
           "so the last rows hold it at the rate of an ordinary one (cgroup blkio).")
    yield ""
    yield "| model | bytes | disk | tokens | budget | peak MiB | read / file | seconds | raw read | products | T / seconds |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in r["rows"]:
        ours, reading, computing = median(row["ours"]), median(row["raw"]), row["flops"] / (2 * r["fma"])
        yield (f"| {row['model']} | {row['bytes'] / 1e9:.2f} GB | {row['disk']} | {row['tokens']} | {row['budget']} | {row['peak'] / 2**20:.0f} | {row['bytes_read'] / row['bytes']:.3f} | "
               f"{spread(row['ours'])} | {reading:.2f} | {computing:.2f} | {max(reading, computing) / ours:.2f} |")


# 9. Decoders.
def decoders(_args):
    say("decoders alone")
    return Run(BIN / "bench_decode", "--json").said


def show_decoders(r):
    yield (f"One core, to f32, beside memcpy of as many floats in the same run: {r['copied_in_cache_per_second'] / 1e6:.0f} M/s of "
           f"{r['cache_elements']} numbers, which stay in the caches, {r['copied_in_memory_per_second'] / 1e6:.0f} M/s of "
           f"{r['memory_elements']}, which go to memory. Shares of memcpy's rate; the goal is 0.5 in memory.")
    yield ""
    yield "| encoding | in cache, M/s | of memcpy | in memory, M/s | of memcpy |"
    yield "|---|---|---|---|---|"
    for e in r["encodings"]:
        yield (f"| {e['name']} | {e['in_cache_per_second'] / 1e6:.0f} | {e['in_cache_of_copy']:.2f} | "
               f"{e['in_memory_per_second'] / 1e6:.0f} | {e['in_memory_of_copy']:.2f} |")


# 10. Opening a folder of many shards.
def write_many_shards(folder, shards, tensors):
    """Headers as a mixture of experts would have them; a number for each tensor."""
    folder.mkdir(parents=True)
    per_shard, weight_map = tensors // shards, {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        header = {}
        for i in range(per_shard):
            number = shard * per_shard + i
            layer, rest = divmod(number, 768)
            expert, which = divmod(rest, 3)
            tensor = f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w{which + 1}.weight"
            header[tensor] = {"dtype": "BF16", "shape": [1, 1], "data_offsets": [2 * i, 2 * i + 2]}
            weight_map[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + bytes(2 * per_shard))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 2 * len(weight_map)}, "weight_map": weight_map}, indent=2))
    (folder / "config.json").write_text(json.dumps({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}))


def in_a_child_of_its_own(make, *args):
    """What this script holds counts into the peak of the programs that it starts, until they run."""

    def run(path):
        child = multiprocessing.Process(target=make, args=(path, *args))
        child.start()
        child.join()
        if child.exitcode != 0:
            sys.exit(f"bench: {path} could not be made")

    return run


def opening(args):
    shards, tensors = (100, 20000) if args.small else (1000, 200000)
    folder = made("many-shards", f"{shards} shards, {tensors} tensors", in_a_child_of_its_own(write_many_shards, shards, tensors))
    rows = []
    for cold in (True, False):
        row = {"cold": cold, "ours": [], "limit": [], "parse": []}
        for rep in range(args.reps):
            say(f"repetition {rep + 1}: {'cold' if cold else 'from the page cache'}")
            if cold:
                drop_cache(folder)
            limit = Run(BIN / "bench_open", folder).said
            row["limit"].append(limit["read_seconds"] + limit["parse_seconds"])
            row["parse"].append(limit["parse_seconds"])
            if cold:
                drop_cache(folder)
            run = Run(BIN / "sluice", "inspect", folder, "--json", "--quiet")
            row["ours"].append(run.seconds)
            row["peak"] = run.peak_bytes
        rows.append(row)
    return {"rows": rows, "shards": shards, "tensors": tensors, "bytes": limit["bytes"]}


def show_opening(r):
    yield (f"`sluice inspect` of {r['shards']} shards and {r['tensors']} tensors, the whole process, one thread; the goal is 1 s. Beside it what is needed at the least: "
           f"the index and the headers ({r['bytes'] / 1e6:.0f} MB of JSON) read with plain reads and pulled through the same reader, nothing kept.")
    yield ""
    yield "| files | sluice, s | peak MiB | reading and parsing, s | of it parsing, s | limit / sluice |"
    yield "|---|---|---|---|---|---|"
    for row in r["rows"]:
        ours, limit = median(row["ours"]), median(row["limit"])
        yield (f"| {'cold' if row['cold'] else 'in the page cache'} | {spread(row['ours'], 3)} | {row['peak'] / 2**20:.0f} | {spread(row['limit'], 3)} | "
               f"{median(row['parse']):.3f} | {limit / ours:.2f} |")


# 11. Tokenizers.
def texts_to_tokenize():
    """English, Python and a mixture of scripts: name -> file."""
    code, size = [], 0
    for path in sorted(pathlib.Path(json.__file__).parents[1].glob("*.py")):
        code.append(path.read_text(encoding="utf-8", errors="ignore"))
        size += len(code[-1])
        if size > 2_000_000:
            break
    english = [p.read_text(encoding="utf-8", errors="ignore") for p in sorted(pathlib.Path("/usr/share/common-licenses").iterdir())]
    english += [p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").rglob("*.md"))]
    scripts = [range(a, b) for a, b in ((0x3B1, 0x3C9), (0x430, 0x44F), (0x5D0, 0x5EA), (0x627, 0x64A), (0x915, 0x939), (0xAC00, 0xAD00), (0x4E00, 0x5E00), (0x1F600, 0x1F640))]
    chooser = random.Random(1)
    words = []
    for _ in range(120_000):
        script = chooser.choice(scripts)
        words.append("".join(chr(chooser.choice(script)) for _ in range(chooser.randint(1, 7))))
    files = {}
    for name, text in (("English", "\n".join(english)), ("Python code", "\n".join(code)), ("many scripts", " ".join(words))):
        files[name] = DATA / f"text-{name.replace(' ', '-')}.txt"
        files[name].write_text(text, encoding="utf-8")
    return files


def tokenizers(args):
    gguf = subprocess.run([ROOT / "scripts" / "smollm2.sh"], capture_output=True, text=True, check=False)
    python = args.mergekit_venv / "bin" / "python"
    if gguf.returncode != 0 or not python.exists():
        say("SmolLM2's GGUF and PyPI's tokenizers are needed (make test-peers, --mergekit): left out")
        return None
    path = ROOT / gguf.stdout.strip().splitlines()[-1]
    folder = made("tokenizer", f"tokenizer of {path.name}", lambda out: sluice("convert", path, "-o", out, "--dtype", "bfloat16"))
    files = texts_to_tokenize()
    said = Run(python, ROOT / "bench" / "tokenizer_peer.py", BIN / "bench_tokenizer", folder / "tokenizer.json", *files.values()).said
    return {"version": said["version"], "rows": [dict(row, text=name) for name, row in zip(files, said["rows"])]}


def show_tokenizers(r):
    yield (f"SmolLM2's tokenizer.json, one thread, encoding alone, median of 9 runs by CPU time, beside PyPI's tokenizers {r['version']} on the same text. "
           "Both remember words that they have seen.")
    yield ""
    yield "| text | MB | tokens | sluice, MB/s | tokenizers, MB/s | ratio |"
    yield "|---|---|---|---|---|---|"
    for row in r["rows"]:
        same = f"{row['tokens']}" if row["tokens"] == row["their_tokens"] else f"{row['tokens']}, theirs {row['their_tokens']}"
        yield f"| {row['text']} | {row['megabytes']:.1f} | {same} | {row['ours']:.1f} | {row['theirs']:.1f} | {row['ours'] / row['theirs']:.1f} |"


# 13. Fingerprints.
FINGERPRINT_DEPTH = 32
FINGERPRINT_READ_KIB = 8  # a block of 4 KiB lies on two pages


def fingerprints(args):
    need_disk(args.big_bytes * 2.2, "item 13")
    base = model("big-base", *args.big)
    copy = resharded("big-copy", base)
    kept = DATA / "fingerprint.json"
    cases = {
        "fingerprint": (1, ["fingerprint", base, "-o", kept]),
        "verify --against it": (1, ["verify", copy, "--against", kept]),
        "verify --level fingerprint, other shards": (2, ["verify", base, copy, "--level", "fingerprint"]),
    }
    blocks = sluice("fingerprint", base, "-o", kept).said["blocks"]
    rows = {name: [] for name in cases}
    for rep in range(args.reps):
        for name, (sides, command) in cases.items():
            files = ([base] if sides == 1 else [base, copy])
            files = [path for folder in files for path in sorted(folder.glob("*.safetensors"))]
            say(f"repetition {rep + 1}: raw, {sides * blocks} reads")
            drop_cache(DATA)
            limit = Run(BIN / "bench_raw_io", "--random", str(sides * blocks), "--block-kib", str(FINGERPRINT_READ_KIB), "--depth",
                        str(max(1, FINGERPRINT_DEPTH // len(files))), *files).said
            say(f"repetition {rep + 1}: {name}")
            run = sluice(*command, "--max-memory", "64MiB")
            rows[name].append({"seconds": run.seconds, "cpu": run.cpu_seconds, "peak": run.peak_bytes, "raw": limit["seconds"],
                               "blocks": sides * blocks, "bytes": run.said["bytes_read"]})
    return {"model_bytes": weights_of(base).stat().st_size, "rows": rows}


def show_fingerprints(r):
    yield (f"A checkpoint of {r['model_bytes'] / 1e9:.2f} GB from disk at 64 MiB, page cache dropped, defaults (a change of 0.1% of the blocks is noticed with 99%). `raw`: as many reads of "
           f"{FINGERPRINT_READ_KIB} KiB at random places, io_uring with O_DIRECT, {FINGERPRINT_DEPTH} in flight, in the same run.")
    yield ""
    yield "| | seconds | blocks read | MB of them | raw, s | of raw | cores | peak MiB |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, runs in r["rows"].items():
        yield (f"| {name} | {spread([x['seconds'] for x in runs])} | {runs[0]['blocks']} | {runs[0]['bytes'] / 1e6:.0f} | {spread([x['raw'] for x in runs])} | "
               f"{spread([x['raw'] / x['seconds'] for x in runs])} | {median([x['cpu'] / x['seconds'] for x in runs]):.2f} | "
               f"{max(x['peak'] for x in runs) / 2**20:.0f} |")
    yield ""
    yield "The seconds are of the whole program: start, headers, the tokenizer's hash, planning, statistics, and the file's writing and sync where there is one."


ITEMS = {
    1: ("Merge from disk", merges, show_merges),
    2: ("The same work by mergekit", peers, show_peers),
    3: ("Digest and verify from disk", digests, show_digests),
    4: ("Peak memory against size", peaks, show_peaks),
    5: ("Kernels alone, one core", kernels, show_kernels),
    6: ("Products and attention alone, one core", products, show_products),
    7: ("Prompt tokens a second", forward, show_forward),
    8: ("A model larger than its budget", larger, show_larger),
    9: ("Decoders alone, one core", decoders, show_decoders),
    10: ("Opening a folder of many shards", opening, show_opening),
    11: ("Tokenizers, one thread", tokenizers, show_tokenizers),
    12: ("Every method beside mergekit", lambda args: bench_methods.measure(sys.modules[__name__], args),
         lambda result: bench_methods.show(sys.modules[__name__], result)),
    13: ("Fingerprints from disk", fingerprints, show_fingerprints),
    14: ("Verification beside other tools", lambda args: bench_verification.measure(sys.modules[__name__], args),
         lambda result: bench_verification.show(sys.modules[__name__], result)),
    15: ("Do models behave alike?", lambda args: bench_behaviour.measure(sys.modules[__name__], args),
         lambda result: bench_behaviour.show(sys.modules[__name__], result)),
}


def machine():
    cpu = "?"
    flags = set()
    for line in open("/proc/cpuinfo", encoding="ascii", errors="replace"):
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            flags = set(line.split(":", 1)[1].split())
    best = next((f for f in ("avx512_bf16", "avx512bw", "avx2", "sse4_2") if f in flags), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    filesystem = subprocess.run(["stat", "-f", "-c", "%T", DATA], capture_output=True, text=True, check=False).stdout.strip()
    return (f"{cpu}, {os.cpu_count()} cores ({best}{', sha_ni' if 'sha_ni' in flags else ''}), {memory / 2**30:.0f} GiB, "
            f"Linux {platform.release()}, {filesystem} file system")


def write_results(results, args):
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    lines = ["# Results of the bench", "", "Written by `make bench` (bench/bench.py); absolute figures are one machine's on one day, ratios are what to look at.", ""]
    for number, (title, _, show) in ITEMS.items():
        result = results.get(str(number))
        lines += [f"## {number}. {title}", ""]
        if result is None:
            lines += ["Not measured in this run.", ""]
            continue
        lines += list(show(result["data"])) + ["", f"{result['date']}, {result['commit']}, `{result['command']}`. {result['machine']}.", ""]
    RESULTS.write_text("\n".join(lines).rstrip() + "\n")
    say(f"wrote {RESULTS.relative_to(ROOT)} ({commit})")


def main():
    parser = argparse.ArgumentParser(description="measure sluice beside the machine's limits")
    parser.add_argument("--small", action="store_true", help="small models: to see that it runs; the figures mean little, and go to standard output only")
    parser.add_argument("--items", default="5,6,9,11,10,7,8,12,2,4,1,3,13,14,15", help="which, in this order")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--mergekit", action="store_true", help="fetch mergekit from PyPI (6 GB on disk) and measure it too")
    parser.add_argument("--mergekit-venv", type=pathlib.Path, default=ROOT / "build" / "peers-mergekit")
    parser.add_argument("--signing-venv", type=pathlib.Path, default=ROOT / "build" / "peers", help="where model-signing is (make test-peers sets it up)")
    parser.add_argument("--challenges", type=int, help="of item 15; 512, with --small 16")
    parser.add_argument("--clean", action="store_true", help="remove the models that earlier runs made, and nothing else")
    args = parser.parse_args()
    if args.clean:
        shutil.rmtree(DATA, ignore_errors=True)
        return
    args.small_budget = "256MiB"
    if args.small:
        args.big, args.big_bytes, args.layers = ["--shape", "smollm2", "--layers", "31"], 0.28e9, [2, 9, 30]
        args.middle, args.middle_bytes = ["--shape", "smollm2"], 0.27e9
    else:
        args.big, args.big_bytes, args.layers = ["--shape", "yi-34b", "--layers", "2"], 4.07e9, [28, 134, 557]
        args.middle, args.middle_bytes = ["--shape", "tinyllama", "--layers", "10"], 1.15e9
    args.challenges = args.challenges or (16 if args.small else 512)
    DATA.mkdir(parents=True, exist_ok=True)
    kept = DATA / ("results-small.json" if args.small else "results.json")
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    for number in map(int, args.items.split(",")):
        title, measure, _ = ITEMS[number]
        say(f"item {number}: {title}")
        data = measure(args)
        if data is None:
            continue
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        results[str(number)] = {"data": json.loads(json.dumps(data)), "date": f"{datetime.date.today()}", "commit": commit or "?",
                                "command": "bench/run.sh" + (" --small" if args.small else "") + f" --items {number} --reps {args.reps}",
                                "machine": machine()}
        kept.write_text(json.dumps(results))
        for line in ITEMS[number][2](results[str(number)]["data"]):
            print(line)
    if not args.small:
        write_results(results, args)


if __name__ == "__main__":
    main()
