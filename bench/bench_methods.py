"""Item 12: every merge method beside mergekit on the same work. `bench` is the module bench.py, which runs and times commands."""

import shutil
import subprocess
import sys

# Of parameters that a method needs: 0.5, but for these.
VALUES = {("nearswap", "t"): 0.001}


def recipe(bench, method, models, prefix="method"):
    """Three models beside the base, or as many as the method takes; each with its own weight and density where it has those."""
    per_model = {p["name"] for p in method["parameters"] if p["scope"] == "model"}
    needed = [p["name"] for p in method["parameters"] if p["scope"] == "recipe" and p["default"] is None]
    lines = [f"merge_method: {method['name']}", "dtype: bfloat16"]
    if method["needs_base"]:
        lines.append(f"base_model: {models[0]}")
    lines.append("models:")
    if method["needs_base"]:
        lines.append(f"  - model: {models[0]}")
    chosen = models[1 : 1 + (method["max_models"] or 3)]
    for folder, weight, density in zip(chosen, (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)):
        given = {"weight": weight, "density": density}
        lines += [f"  - model: {folder}", "    parameters: {" + ", ".join(f"{k}: {v}" for k, v in given.items() if k in per_model) + "}"]
    lines.append("parameters: {" + ", ".join(f"{name}: {VALUES.get((method['name'], name), 0.5)}" for name in needed) + "}")
    path = bench.DATA / f"{prefix}-{method['name']}.yml"
    path.write_text("\n".join(lines) + "\n")
    return path, len(chosen) + method["needs_base"]


def warm(path):
    """Into the page cache, and not into this process: a child's peak begins with its parent's."""
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def from_disk(bench, files, merge):
    """A merge without the page cache, and what the disk gives to its pattern: its parents' files in, one out, right after it."""
    run = merge(cold=True)
    moved = run.said["bytes_read"] + run.said["bytes_written"]
    rate = bench.raw(files, bench.DATA / "raw.out")["gb_per_second"] * 1e9
    return {"seconds": run.seconds, "raw": moved / rate, "user": run.user_seconds, "read": run.said["bytes_read"]}


def files_of(bench, method, models, parents):
    files = [bench.weights_of(folder) for folder in models]
    return files[:parents] if method["needs_base"] else files[1 : 1 + parents]


def measure_large(bench, args, methods):
    """Models whose merging takes long beside starting, with the disk held at an ordinary rate where that can be done."""
    bench.need_disk(args.middle_bytes * 6.5, "item 12")
    models = [bench.model("middle-base", *args.middle)]
    models += [bench.tune(f"middle-tune{i}", models[0], i) for i in (1, 2, 3)]
    rows, out = {}, bench.DATA / "merged-method"
    for method in methods:
        path, parents = recipe(bench, method, models, "middle")
        files = files_of(bench, method, models, parents)

        def merge(cold):
            run = bench.sluice("merge", path, "-o", out, "--force", "--threads", "2", "--max-memory", args.small_budget, cold=cold)
            shutil.rmtree(out)
            return run

        row = rows[method["name"]] = {"parents": parents, "runs": [], "held": False}
        for rep in range(args.reps):
            bench.say(f"repetition {rep + 1}: {method['name']}, larger models")
            with bench.disk_held_at(bench.SLOW_DISK) as held:
                row["held"] = held
                row["runs"].append(from_disk(bench, files, merge))
    return {"rows": rows, "model_bytes": bench.weights_of(models[0]).stat().st_size, "shape": " ".join(args.middle)}


def measure(bench, args):
    venv = args.mergekit_venv
    has_peer = subprocess.run([sys.executable, bench.PEER, "found", "--venv", venv], check=False).returncode == 0
    if not has_peer:
        bench.say("mergekit is not set up: sluice alone (bench/run.sh --mergekit fetches it from PyPI, 6 GB on disk)")
    models = bench.family("smol", ["--shape", "smollm2"])[:4]
    rows, out = {}, bench.DATA / "merged-method"
    methods = bench.Run(bench.BIN / "sluice", "merge", "--list-methods", "--json").said["methods"]
    for method in methods:
        name = method["name"]
        path, parents = recipe(bench, method, models)
        row = {"parents": parents, "ours": [], "disk": [], "held": [], "theirs": [], "refused": ""}
        files = files_of(bench, method, models, parents)

        def merge(cold):
            run = bench.sluice("merge", path, "-o", out, "--force", "--threads", "2", "--max-memory", args.small_budget, cold=cold)
            shutil.rmtree(out)
            return run

        for rep in range(args.reps):
            bench.say(f"repetition {rep + 1}: {name}")
            row["disk"].append(from_disk(bench, files, merge))
            with bench.disk_held_at(bench.SLOW_DISK) as held:
                if held:
                    row["held"].append(from_disk(bench, files, merge))
            for file in files:
                warm(file)
            run = merge(cold=False)
            row["ours"].append({"seconds": run.seconds, "peak": run.said["peak_memory_bytes"], "read": run.said["bytes_read"]})
            if not has_peer or row["refused"]:
                continue
            done = bench.Run(bench.PEER, "merge", path, out, "--threads", "2", "--venv", venv, allowed=range(256))
            shutil.rmtree(out, ignore_errors=True)
            if "seconds" in done.said:
                row["theirs"].append({"seconds": done.said["seconds"], "peak": done.said["peak_memory_bytes"]})
            else:
                row["refused"] = "fails"
        rows[name] = row
    return {"rows": rows, "budget": args.small_budget, "model_bytes": bench.weights_of(models[0]).stat().st_size,
            "large": measure_large(bench, args, methods)}


def show(bench, result):
    size = result["model_bytes"]
    yield (f"bf16, SmolLM2-135M's shapes ({size / 1e6:.0f} MB a model) in the page cache, up to three models beside the base, each method's defaults, two threads each. "
           f"mergekit's imports and start are not counted, sluice's start is. sluice with `--max-memory {result['budget']}`. Read: in models.")
    yield ""
    yield ("`from disk`: the same merge without the page cache. `raw`: the bytes that it read and wrote, at the rate of `bench_raw_io` on the same files right after it "
           "(O_DIRECT, the parents in, one model out). `of the limit`: raw over from disk; goal 0.90. This disk outruns what two cores compute, so the last of these columns "
           f"has both with the disk held at {bench.SLOW_DISK / 1e9} GB/s, the rate of an ordinary one (cgroup blkio).")
    yield ""
    yield "| method | parents | seconds | read | peak MiB | from disk, s | raw, s | of the limit | of the limit, held | mergekit, s | its peak MiB | times the speed | of its memory |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for name, row in result["rows"].items():
        ours = bench.median([x["seconds"] for x in row["ours"]])
        peak = max(x["peak"] for x in row["ours"])
        text = (f"| {name} | {row['parents']} | {bench.spread([x['seconds'] for x in row['ours']])} | {row['ours'][0]['read'] / size:.2f} | {peak / 2**20:.0f} | ")
        disk = row.get("disk")  # not in results of before
        text += (f"{bench.median([x['seconds'] for x in disk]):.2f} | {bench.median([x['raw'] for x in disk]):.2f} | "
                 f"{bench.median([x['raw'] / x['seconds'] for x in disk]):.2f} | " if disk else "| | | ")
        held = row.get("held")
        text += f"{bench.median([x['raw'] / x['seconds'] for x in held]):.2f} | " if held else "| "
        if row["theirs"]:
            theirs = bench.median([x["seconds"] for x in row["theirs"]])
            their_peak = max(x["peak"] for x in row["theirs"])
            text += f"{bench.spread([x['seconds'] for x in row['theirs']])} | {their_peak / 2**20:.0f} | **{theirs / ours:.0f}** | 1/{their_peak / peak:.0f} |"
        else:
            text += f"{row['refused'] or 'not measured'} | | | |"
        yield text
    if "large" in result:  # not in results of before
        yield from show_large(bench, result["large"])


def show_large(bench, result):
    size = result["model_bytes"]
    held = all(row["held"] for row in result["rows"].values())
    disk = f"with the disk held at {bench.SLOW_DISK / 1e9} GB/s" if held else "at this disk's own rate (it could not be held at a lower one)"
    yield ""
    yield (f"Larger models ({result['shape']}: {size / 1e9:.2f} GB a model), from disk, {disk}: starting, planning and closing hardly count here. `arithmetic`: the merge's user "
           "time over its two threads, hashing included. `of the longer`: the longer of raw and arithmetic, over the merge's time; goal 0.90.")
    yield ""
    yield "| method | parents | read | seconds | raw, s | of raw | arithmetic, s | of the longer |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in result["rows"].items():
        runs = row["runs"]
        longer = [max(x["raw"], x["user"] / 2) / x["seconds"] for x in runs]
        yield (f"| {name} | {row['parents']} | {runs[0]['read'] / size:.2f} | {bench.spread([x['seconds'] for x in runs])} | "
               f"{bench.median([x['raw'] for x in runs]):.2f} | {bench.median([x['raw'] / x['seconds'] for x in runs]):.2f} | "
               f"{bench.median([x['user'] / 2 for x in runs]):.2f} | {bench.median(longer):.2f} |")
