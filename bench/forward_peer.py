#!/usr/bin/env python3
"""transformers and llama-cpp-python beside sluice: prompt tokens a second of one model at 512 tokens.

    forward_peer.py setup [--venv DIR]                        builds llama-cpp-python of PyPI in the environment (15 minutes on two cores)
    forward_peer.py found transformers|llama-cpp [--venv DIR] exit 0 where it is set up (transformers: mergekit_peer.py setup)
    forward_peer.py run MODEL [--gguf] [--venv DIR] [--threads N] [--tokens N] [--dtype float32]
                                                              one JSON object: seconds of the forward pass alone (median of 3 after one
                                                              to warm up; logits of the last token; loading not counted)
    forward_peer.py sequences A.gguf B.gguf --ids IDS.json [--venv DIR] [--threads N]
                                                              one JSON object: seconds that llama.cpp takes for the sequences through both, 8 at
                                                              a time, with the logits of all tokens; loading not counted
    forward_peer.py quantize IN.gguf OUT.gguf TYPE [--venv DIR]
                                                              llama.cpp's own conversion to F32, F16, BF16 or Q8_0
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


LLAMA_CPP = "llama-cpp-python==0.3.36"
IMPORTS = {"transformers": "import torch, transformers", "llama-cpp": "import llama_cpp"}


def found(peer, venv):
    python = python_of(venv)
    return os.access(python, os.X_OK) and subprocess.run([python, "-c", IMPORTS[peer]], check=False,
                                                         stderr=subprocess.DEVNULL).returncode == 0


def setup(venv):
    if not os.access(python_of(venv), os.X_OK):
        subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
    flags = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
    subprocess.run([python_of(venv), "-m", "pip", "install", "--quiet", LLAMA_CPP], check=True, env={**os.environ, "CMAKE_ARGS": flags})


def quantize(source, out, name):
    import ctypes
    import llama_cpp
    types = {"F32": llama_cpp.LLAMA_FTYPE_ALL_F32, "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16, "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
             "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = types[name]
    params.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp could not make {out}")


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
    model = transformers.AutoModelForCausalLM.from_pretrained(args.operands[0], torch_dtype=getattr(torch, args.dtype)).eval()
    tokens = torch.tensor([ids])

    def run():
        with torch.no_grad():
            model(input_ids=tokens, logits_to_keep=1)

    return timed(run), f"transformers {transformers.__version__}, torch {torch.__version__}"


def llama_cpp_seconds(args, ids):
    import llama_cpp
    model = llama_cpp.Llama(args.operands[0], n_ctx=args.tokens, n_batch=args.tokens, n_ubatch=args.tokens, n_threads=args.threads,
                            n_threads_batch=args.threads, logits_all=False, verbose=False)

    def run():
        model.reset()
        model.eval(ids)

    return timed(run), f"llama-cpp-python {llama_cpp.__version__}"


def sequences_seconds(args):
    """Batches of several sequences, as one who wants their distributions would run them; nothing is done with the logits."""
    import llama_cpp
    sequences = json.loads(pathlib.Path(args.ids).read_text(encoding="utf-8"))
    together = 8
    tokens = together * max(map(len, sequences))
    llama_cpp.llama_backend_init()
    seconds = 0
    for path in args.operands:
        model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = tokens
        params.n_seq_max = together
        params.n_threads = params.n_threads_batch = args.threads
        context = llama_cpp.llama_init_from_model(model, params)
        if not context:
            sys.exit(f"llama.cpp could not open {path}")
        batch = llama_cpp.llama_batch_init(tokens, 0, 1)
        start = time.perf_counter()
        for first in range(0, len(sequences), together):
            batch.n_tokens = 0
            for sequence, ids in enumerate(sequences[first : first + together]):
                for position, token in enumerate(ids):
                    i = batch.n_tokens
                    batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, 1
                    batch.seq_id[i][0] = sequence
                    batch.n_tokens += 1
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
            if llama_cpp.llama_decode(context, batch) != 0:
                sys.exit(f"llama.cpp could not decode with {path}")
            llama_cpp.llama_synchronize(context)
        seconds += time.perf_counter() - start
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    total = len(args.operands) * sum(map(len, sequences))
    print(json.dumps({"seconds": seconds, "tokens_per_second": total / seconds, "version": f"llama-cpp-python {llama_cpp.__version__}"}))


def main():
    parser = argparse.ArgumentParser(description="prompt tokens a second of transformers or llama.cpp")
    parser.add_argument("what", choices=["setup", "found", "run", "sequences", "quantize"])
    parser.add_argument("operands", nargs="*")
    parser.add_argument("--venv", type=pathlib.Path, default=DEFAULT_VENV)
    parser.add_argument("--gguf", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ids", help="a list of lists of token ids")
    args = parser.parse_args()
    if args.what == "setup":
        setup(args.venv)
        return
    if args.what == "found":
        sys.exit(0 if found(args.operands[0], args.venv) else 1)
    if pathlib.Path(sys.prefix).resolve() != args.venv.resolve():
        os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS=str(args.threads))
        os.execv(python_of(args.venv), [python_of(args.venv), *sys.argv])
    if args.what == "quantize":
        quantize(*args.operands)
        return
    if args.what == "sequences":
        sequences_seconds(args)
        return
    ids = [(7919 * i + 11) % 49152 for i in range(args.tokens)]
    seconds, version = (llama_cpp_seconds if args.gguf else transformers_seconds)(args, ids)
    print(json.dumps({"seconds": seconds, "tokens_per_second": args.tokens / seconds, "version": version}))


if __name__ == "__main__":
    main()
