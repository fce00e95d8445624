"""tokenizer_peer.py BENCH_TOKENIZER TOKENIZER.json TEXT...: one thread of PyPI's tokenizers, and of sluice's bench_tokenizer, on the same texts.

Needs a Python with `tokenizers`. Median of 9 runs, by CPU time. Prints JSON; bench.py's item 11 runs this.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402


def main():
    program, file, *texts = sys.argv[1:]
    tokenizer = tokenizers.Tokenizer.from_file(file)
    rows = []
    for path in texts:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        megabytes = len(text.encode()) * 1e-6
        seconds = []
        for _ in range(9):
            begin = time.process_time()
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            seconds.append(time.process_time() - begin)
        ours = json.loads(subprocess.run([program, file, path, "--json"], check=True, capture_output=True).stdout)
        rows.append({"megabytes": megabytes, "ours": ours["megabytes_per_second"], "theirs": megabytes / statistics.median(seconds),
                     "tokens": ours["tokens"], "their_tokens": len(ids)})
    print(json.dumps({"version": tokenizers.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
