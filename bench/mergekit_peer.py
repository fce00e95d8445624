#!/usr/bin/env python3
"""mergekit 0.1.4 beside sluice: sets it up in a virtual environment of its own, and times one merge in it.

    mergekit_peer.py setup [--venv DIR]              mergekit, transformers 4.57 and torch from PyPI (6 GB on disk: PyPI's torch
                                                     brings CUDA's libraries along); does nothing twice
    mergekit_peer.py found [--venv DIR]              exit 0 where it is set up
    mergekit_peer.py merge RECIPE OUT [--venv DIR] [--threads N]
                                                     one JSON object: seconds of the merge alone (imports and start are not
                                                     counted), bytes of output, peak resident memory of the whole process, and
                                                     resident memory after the imports

Nothing else of the project uses it; `make bench` runs it where it is found.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

PACKAGES = ["mergekit==0.1.4", "transformers>=4.57,<4.58", "torch"]
NEEDED_BYTES = 14 * 10**9  # 6 GB installed, and pip unpacks beside what it downloads
DEFAULT_VENV = pathlib.Path(__file__).resolve().parents[1] / "build" / "peers-mergekit"


def setup(venv):
    stamp = venv / "stamp"
    if found(venv):
        print(f"mergekit: {venv} is up to date")
        return
    free = shutil.disk_usage(venv.parent if venv.parent.exists() else ".").free
    if free < NEEDED_BYTES:
        sys.exit(f"mergekit: needs {NEEDED_BYTES / 1e9:.0f} GB of disk for the while, {free / 1e9:.1f} GB are free")
    print(f"mergekit: {', '.join(PACKAGES)} from PyPI into {venv} (about 6 GB)", flush=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    if not (venv / "bin" / "python").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    stamp.write_text("\n".join(PACKAGES))


def found(venv):
    stamp = venv / "stamp"
    return stamp.is_file() and stamp.read_text() == "\n".join(PACKAGES)


def status_bytes(key):
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def merge(recipe, out, threads):
    """Runs in the virtual environment."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="")
    import importlib.metadata
    import logging

    import torch
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    logging.disable(logging.INFO)
    torch.set_num_threads(threads)
    with open(recipe, encoding="utf-8") as file:
        config = MergeConfiguration.model_validate(yaml.safe_load(file))
    options = MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False, lazy_unpickle=True, quiet=True,
                           random_seed=0, num_threads=threads)
    shutil.rmtree(out, ignore_errors=True)
    resident_before = status_bytes("VmRSS")
    # The peak of the merge alone, not of the imports.
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")
    except OSError:
        pass
    cpu_before = time.process_time()
    start = time.perf_counter()
    run_merge(config, str(out), options)
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu_before
    written = sum(path.stat().st_size for path in pathlib.Path(out).glob("*.safetensors"))
    print(json.dumps({
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "bytes_written": written,
        "peak_memory_bytes": status_bytes("VmHWM"),
        "memory_after_imports_bytes": resident_before,
        "threads": threads,
        "versions": {name: importlib.metadata.version(name) for name in ("mergekit", "torch", "transformers")},
    }))


def main():
    parser = argparse.ArgumentParser(description="mergekit as a peer of the bench")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "found", "merge"):
        command = commands.add_parser(name)
        command.add_argument("--venv", type=pathlib.Path, default=DEFAULT_VENV)
        if name == "merge":
            command.add_argument("recipe", type=pathlib.Path)
            command.add_argument("out", type=pathlib.Path)
            command.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.command == "setup":
        setup(args.venv)
    elif args.command == "found":
        sys.exit(0 if found(args.venv) else 1)
    elif pathlib.Path(sys.prefix).resolve() != args.venv.resolve():
        if not found(args.venv):
            sys.exit(f"mergekit: not in {args.venv}; `bench/mergekit_peer.py setup` fetches it from PyPI")
        python = str(args.venv / "bin" / "python")
        os.execv(python, [python, *sys.argv])
    else:
        merge(args.recipe, args.out, args.threads)


if __name__ == "__main__":
    main()
