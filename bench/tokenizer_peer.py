"""tokenizer_peer.py TOKENIZER.json TEXT...: one thread of PyPI's tokenizers, and of sluice's bench_tokenizer, on the same texts.

Needs a Python with `tokenizers`; SLUICE_BUILD names the folder of bench_tokenizer (default build/release). Median of 9 runs, by CPU time.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402

BENCH = pathlib.Path(os.environ.get("SLUICE_BUILD", "build/release")) / "bench_tokenizer"


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1])
    for path in sys.argv[2:]:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        seconds = []
        for _ in range(9):
            begin = time.process_time()
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            seconds.append(time.process_time() - begin)
        theirs = len(text.encode()) * 1e-6 / statistics.median(seconds)
        ours = json.loads(subprocess.run([BENCH, sys.argv[1], path, "--json"], check=True, capture_output=True).stdout)
        same = "the same" if ours["tokens"] == len(ids) else f"{ours['tokens']} against their"
        print(f"{path}: sluice {ours['megabytes_per_second']:.1f} MB/s, tokenizers {theirs:.1f} MB/s, {same} {len(ids)} tokens")


if __name__ == "__main__":
    main()
