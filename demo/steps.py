#!/usr/bin/env python3
"""The demo's book-keeping, from what sluice's --json says and the kernel measured.

    steps.py run LOG NAME [--exit N] -- COMMAND...   runs it, keeps its JSON, seconds and peak memory in LOG/NAME.json; prints
                                                     what the JSON says in a line or two; fails where it does not exit with N
    steps.py get LOG NAME FIELD                      one field of that JSON (a.b for fields within, a.0 in a list)
    steps.py table LOG                               all steps in order, with rates and memory
"""

import json
import os
import pathlib
import sys
import time


def run(log, name, expected, command):
    log.mkdir(parents=True, exist_ok=True)
    kept = log / f"{name}.out"
    with open(kept, "wb") as out:
        start = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - start
    text = kept.read_text(encoding="utf-8")
    kept.unlink()
    code = os.waitstatus_to_exitcode(status)
    try:
        said = json.loads(text) if text.strip() else {}
    except ValueError:
        said = {}
    if code != expected:
        message = said.get("message", text.strip())
        sys.exit(f"demo: '{' '.join(command)}' ended with {code}, not {expected}: {message}")
    record = {"name": name, "command": command, "seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024, "finished": time.time(), "said": said}
    (log / f"{name}.json").write_text(json.dumps(record))
    for line in summary(said):
        print(f"    {line}")
    print(f"    ({seconds:.2f} s, {memory(record)} resident at most)", flush=True)


def summary(said):
    if "verdict" in said:
        yield said["verdict"]
        yield f"proves: {said['proves']}"
        yield f"does not prove: {said['does_not_prove']}"
    if "root" in said:
        yield f"root {said['root']}"
    if "parameters" in said:
        yield f"{said.get('architecture')}, {said['parameters']:,} parameters, {size(said.get('bytes', 0))}"
        yield "tensors: " + ", ".join(f"{d['tensors']} {name}" for name, d in said.get("dtypes", {}).items())
    for i, model in enumerate(said.get("models", [])):
        pair = next((p for p in said["pairs"] if i > 0 and p["b"] == model["ref"]), None)
        against = f", ln PPL {pair['delta_ln_ppl']:+.4f} ± {pair['error']:.4f} paired, mean KL {pair['kl']['mean']:.4f}" if pair else ""
        yield f"{model['ref']}: PPL {model['ppl']:.4f} ± {model['ppl_error']:.4f}{against}"
    if "files" in said:
        weights = [f["file"] for f in said["files"] if f["file"].endswith(".safetensors")]
        yield f"{len(weights)} file{'s' if len(weights) != 1 else ''} of weights: {', '.join(weights)}"


def field(said, path):
    for key in path.split("."):
        said = said[int(key) if isinstance(said, list) else key]
    return said


def size(n):
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def memory(record):
    return f"{record['peak_bytes'] / 2**20:.0f} MiB"


def table(log):
    records = sorted((json.loads(p.read_text()) for p in log.glob("*.json")), key=lambda r: r["finished"])
    rows = [("step", "root or verdict", "seconds", "GB/s", "MiB")]
    for record in records:
        said = record["said"]
        moved = said.get("bytes_read", 0) + said.get("bytes_written", 0)
        # digest tells the bytes that it hashed: those that it read, unless a recipe made them; inspect reads headers.
        if record["command"][1] == "digest" and not record["command"][2].endswith(".yml"):
            moved = said["bytes"]
        what = said.get("verdict") or said.get("root", "")[:16]
        rate = f"{moved / record['seconds'] / 1e9:.2f}" if moved else ""
        rows.append((record["name"].split("-", 1)[1].replace("_", " "), what, f"{record['seconds']:.2f}", rate,
                     f"{record['peak_bytes'] / 2**20:.0f}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for i, row in enumerate(rows):
        print("  " + "  ".join(c.ljust(w) if j < 2 else c.rjust(w) for j, (c, w) in enumerate(zip(row, widths))).rstrip())
        if i == 0:
            print("  " + "  ".join("-" * w for w in widths))


def main(args):
    match args:
        case ["run", log, name, "--exit", code, "--", *command]:
            run(pathlib.Path(log), name, int(code), command)
        case ["run", log, name, "--", *command]:
            run(pathlib.Path(log), name, 0, command)
        case ["get", log, name, path]:
            print(field(json.loads((pathlib.Path(log) / f"{name}.json").read_text())["said"], path))
        case ["table", log]:
            table(pathlib.Path(log))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
