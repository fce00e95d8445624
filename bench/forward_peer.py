#!/usr/bin/env python3
"""transformers, and llama-cpp-python where it is there, beside sluice: prompt tokens a second of one model at 512 tokens.

    forward_peer.py found [--venv DIR]                        exit 0 where transformers and torch are set up (mergekit_peer.py setup)
    forward_peer.py run MODEL [--gguf] [--venv DIR] [--threads N] [--tokens N] [--dtype float32]
                                                              one JSON object: seconds of the forward pass alone (median of 3 after one
                                                              to warm up; logits of the last token; loading not counted)
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

DEFAULT_VENV = pathlib.Path(__file__).resolve().parents[1] / "build" / "peers-mergekit"


def python_of(venv):
    return str(venv / "bin" / "python")


def found(venv):
    python = python_of(venv)
    return os.access(python, os.X_OK) and subprocess.run([python, "-c", "import torch, transformers"], check=False,
                                                         stderr=subprocess.DEVNULL).returncode == 0


def timed(run):
    run()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def transformers_seconds(args, ids):
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, torch_dtype=getattr(torch, args.dtype)).eval()
    tokens = torch.tensor([ids])

    def run():
        with torch.no_grad():
            model(input_ids=tokens, logits_to_keep=1)

    return timed(run), f"transformers {transformers.__version__}, torch {torch.__version__}"


def llama_cpp_seconds(args, ids):
    import llama_cpp
    model = llama_cpp.Llama(args.model, n_ctx=args.tokens, n_batch=args.tokens, n_ubatch=args.tokens, n_threads=args.threads,
                            n_threads_batch=args.threads, logits_all=False, verbose=False)

    def run():
        model.reset()
        model.eval(ids)

    return timed(run), f"llama-cpp-python {llama_cpp.__version__}"


def main():
    parser = argparse.ArgumentParser(description="prompt tokens a second of transformers or llama.cpp")
    parser.add_argument("what", choices=["found", "run"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--venv", type=pathlib.Path, default=DEFAULT_VENV)
    parser.add_argument("--gguf", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    if args.what == "found":
        sys.exit(0 if found(args.venv) else 1)
    if pathlib.Path(sys.prefix).resolve() != args.venv.resolve():
        os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS=str(args.threads))
        os.execv(python_of(args.venv), [python_of(args.venv), *sys.argv])
    ids = [(7919 * i + 11) % 49152 for i in range(args.tokens)]
    seconds, version = (llama_cpp_seconds if args.gguf else transformers_seconds)(args, ids)
    print(json.dumps({"seconds": seconds, "tokens_per_second": args.tokens / seconds, "version": version}))


if __name__ == "__main__":
    main()
