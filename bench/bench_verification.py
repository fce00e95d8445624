"""Item 14: verification beside the tools that people use for it. `bench` is the module bench.py, which runs and times commands."""

import shutil
import subprocess

# What people write to compare two checkpoints: every tensor of one looked up in the other's shards. The clock starts after the imports.
TORCH_LOOP = """
import glob, json, sys, time
import torch
from safetensors import safe_open
start = time.perf_counter()
torch.set_num_threads(2)
sides = []
for folder in sys.argv[1:]:
    files = [safe_open(path, framework="pt") for path in sorted(glob.glob(folder + "/*.safetensors"))]
    sides.append({name: file for file in files for name in file.keys()})
a, b = sides
assert a.keys() == b.keys()
equal = sum(torch.equal(a[name].get_tensor(name), b[name].get_tensor(name)) for name in a)
print(json.dumps({"seconds": time.perf_counter() - start, "tensors": len(a), "equal": equal}))
"""


def has(python, *modules):
    return subprocess.run([python, "-c", "import " + ", ".join(modules)], capture_output=True, check=False).returncode == 0


def measure(bench, args):
    bench.need_disk(args.big_bytes * 3.2, "item 14")
    base = bench.model("big-base", *args.big)
    copy = bench.resharded("big-copy", base)
    weights = bench.weights_of(base)
    twin, work = bench.DATA / "twin.safetensors", bench.DATA / "verification"
    shutil.copyfile(weights, twin)
    work.mkdir(exist_ok=True)
    key, public, signature = work / "key.pem", work / "public.pem", work / "model.sig"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    torch = str(args.mergekit_venv / "bin" / "python")
    signing = str(args.signing_venv / "bin" / "python")
    sluice = bench.BIN / "sluice"
    limit = ["--max-memory", args.small_budget, "--json", "--quiet"]
    sign = [signing, "-m", "model_signing"]
    cases = {  # models read, command
        "sluice verify --level tensors, other shards": (2, [sluice, "verify", base, copy, "--level", "tensors", *limit]),
        "cmp, the same file twice": (2, ["cmp", weights, twin]),
        "sha256sum of both": (2, ["sha256sum", weights, twin]),
        "safetensors and torch.equal, other shards": (2, [torch, "-c", TORCH_LOOP, base, copy] if has(torch, "torch", "safetensors") else None),
        "sluice digest": (1, [sluice, "digest", base, *limit]),
        "sha256sum": (1, ["sha256sum", weights]),
        "sluice sign": (1, [sluice, "sign", base, "--key", key, "-o", signature, "--force", *limit]),
        "sluice verify --signature": (1, [sluice, "verify", base, "--signature", signature, "--key", public, *limit]),
        "model-signing sign": (1, [*sign, "sign", "key", base, "--private_key", key, "--signature", signature] if has(signing, "model_signing") else None),
        "model-signing verify": (1, [*sign, "verify", "key", base, "--signature", signature, "--public_key", public] if has(signing, "model_signing") else None),
    }
    rows = {name: {"models": models, "runs": []} for name, (models, _) in cases.items()}
    try:
        for rep in range(args.reps):
            for name, (models, command) in cases.items():
                if command is None:
                    continue
                bench.say(f"repetition {rep + 1}: {name}")
                raw = bench.raw([weights, twin][:models])["seconds"]
                bench.drop_cache(bench.DATA)
                run = bench.Run(*command)
                row = {"work": run.said.get("seconds", run.seconds) if "torch" in name else run.seconds,
                       "cpu": run.cpu_seconds, "peak": run.peak_bytes, "raw": raw}
                if name.startswith("sluice"):
                    with bench.disk_held_at(bench.SLOW_DISK) as held:
                        if held:
                            raw = bench.raw([weights, twin][:models])["seconds"]
                            bench.drop_cache(bench.DATA)
                            row["held"] = raw / bench.Run(*command).seconds
                rows[name]["runs"].append(row)
    finally:
        twin.unlink()
        shutil.rmtree(work)
    return {"model_bytes": weights.stat().st_size, "budget": args.small_budget, "rows": rows}


def show(bench, r):
    size = r["model_bytes"]
    yield (f"A checkpoint of {size / 1e9:.2f} GB, or two equal ones, from disk, page cache dropped; sluice with `--max-memory {r['budget']}`. `of raw`: the same files read with O_DIRECT in the "
           "same run, over what it took; `held`: that with the disk held at "
           f"{bench.SLOW_DISK / 1e9} GB/s (cgroup blkio), since this one outruns what two cores compute. Imports of torch are not counted, those of model-signing are. cmp and sha256sum compare files: they can say nothing of other shards.")
    yield ""
    yield "| | seconds | GB/s read | of raw | held | CPU, s | peak MiB |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in r["rows"].items():
        runs = row["runs"]
        if not runs:
            yield f"| {name} | not measured | | | | | |"
            continue
        held = f"{bench.median([x['held'] for x in runs]):.2f}" if "held" in runs[0] else ""
        yield (f"| {name} | {bench.spread([x['work'] for x in runs])} | {bench.median([row['models'] * size / x['work'] / 1e9 for x in runs]):.2f} | "
               f"{bench.median([x['raw'] / x['work'] for x in runs]):.2f} | {held} | {bench.median([x['cpu'] for x in runs]):.1f} | {max(x['peak'] for x in runs) / 2**20:.0f} |")


