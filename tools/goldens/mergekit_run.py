#!/usr/bin/env python3
"""Runs real mergekit over recipes/ and writes expected/. Needs mergekit 0.1.4 and torch (CPU).

    python3 tools/goldens/mergekit_make_models.py            the inputs (or use the ones that are here)
    python3 tools/goldens/mergekit_run.py [NAME...]          expected/NAME.json for all recipes, or for those named
    python3 tools/goldens/mergekit_run.py --check [NAME...]  run again and compare with what is in expected/
    python3 tools/goldens/mergekit_run.py --cli NAME...      the same comparison through the mergekit-yaml program itself

mergekit itself runs unchanged, but for one thing: in places it walks over a Python set of models, whose order is
arbitrary from run to run. Here those sets keep the order in which they were filled (base first, then the recipe's order).
The numbers that are written come from one pass with one thread. Four more passes change one thing each; a tensor whose
bits they change is marked with "varies_with":
  threads    two threads instead of one
  cpu        torch, numpy, OpenBLAS and MKL held to their code for the oldest x86-64 CPUs
  set_order  those sets walked backwards: what a plain mergekit run may do
  repeat     nothing: the same run again (tokenizers hand out their vocabulary in an arbitrary order)
Comments at a recipe's head steer the run: `# run: OPTIONS`, `# tool: mergekit-multi`, `# keep` (store the output's tensors).
Model cards are left out: to write one, mergekit asks the hub about every path that looks like owner/name.
"""
import argparse, hashlib, json, logging, os, re, shlex, shutil, subprocess, sys, traceback

HERE = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/goldens/mergekit"))
WORK = "work"
GOLD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
VARIANTS = {
    "threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "cpu": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": "COMPATIBLE",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3"},
    "set_order": {},
    "repeat": {},
}


def names_of(args):
    every = sorted(f[:-4] for f in os.listdir("recipes") if f.endswith(".yml"))
    return [n for n in every if not args or n in args]


def head(name):
    opts, tool, keep = "", "mergekit-yaml", False
    for line in open(f"recipes/{name}.yml", encoding="utf-8"):
        if not line.startswith("#"):
            break
        if m := re.match(r"# run: (.*)", line):
            opts = m.group(1).strip()
        if m := re.match(r"# tool: (\S+)", line):
            tool = m.group(1)
        keep = keep or line.strip() == "# keep"
    if "--random-seed" not in opts:
        opts = ("--random-seed 42 " + opts).strip()
    opts += " --no-write-model-card"
    return opts, tool, keep


def arguments(name, out):
    opts, tool, _ = head(name)
    a = [f"recipes/{name}.yml"]
    if tool == "mergekit-multi":
        a += ["--intermediate-dir", f"{out}/steps", "--out-path", f"{out}/final"]
    else:
        a += [out]
    return tool, a + shlex.split(opts)


def tensors_of(out):
    """(name, dtype, shape, file, sha256) in the order of the bytes; a multi-document run's names get their folder."""
    res = []
    for d, _, files in sorted(os.walk(out)):
        for f in sorted(files):
            if not f.endswith(".safetensors"):
                continue
            p = os.path.join(d, f)
            with open(p, "rb") as fp:
                n = int.from_bytes(fp.read(8), "little")
                h = json.loads(fp.read(n))
                data = fp.read()
            h.pop("__metadata__", None)
            for k, v in sorted(h.items(), key=lambda e: e[1]["data_offsets"]):
                b, e = v["data_offsets"]
                res.append({"name": k, "dtype": v["dtype"], "shape": v["shape"],
                            "file": os.path.relpath(p, out).replace(os.sep, "/"),
                            "sha256": hashlib.sha256(data[b:e]).hexdigest()})
    return res


class InOrder(dict):
    """A set that is walked in the order in which it was filled, or backwards."""
    backwards = False

    def __init__(self, items=()):
        super().__init__((i, None) for i in items)

    def add(self, item):
        self[item] = None

    def remove(self, item):
        del self[item]

    def __iter__(self):
        return reversed(list(self.keys())) if InOrder.backwards else iter(list(self.keys()))


def order_sets(backwards):
    import mergekit.config, mergekit.merge_methods.easy_define, mergekit.tokenizer.embed
    InOrder.backwards = backwards
    for m in (mergekit.config, mergekit.merge_methods.easy_define, mergekit.tokenizer.embed):
        m.set = InOrder


class Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, r):
        if r.name == "root" or r.name.startswith(("mergekit", "multimerge")):
            t = clean(r.getMessage())
            if t not in self.lines:
                self.lines.append(t)


def clean(text):
    text = str(text).replace(HERE, ".").strip()
    return re.sub(r"/\S*/site-packages/", "", text)


def merge(name, out):
    """One merge in this process, through the command's own entry point."""
    import mergekit.scripts.multimerge as mm, mergekit.scripts.run_yaml as ry
    tool, args = arguments(name, out)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    w = Warnings()
    logging.getLogger().addHandler(w)
    error = None
    try:
        (mm if tool == "mergekit-multi" else ry).main.main(args + ["--quiet"], standalone_mode=False)
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        error = {"type": type(e).__name__, "text": clean(e)}
    finally:
        logging.getLogger().removeHandler(w)
    return error, w.lines


def versions():
    import mergekit, torch, safetensors, transformers, tokenizers, numpy, peft, platform
    from importlib.metadata import version
    cpu = "unknown"
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {"mergekit": version("mergekit"), "torch": torch.__version__, "safetensors": safetensors.__version__,
            "transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "numpy": numpy.__version__,
            "peft": peft.__version__, "python": platform.python_version(), "cpu": cpu,
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def describe(name, out):
    error, warned = merge(name, out)
    opts, tool, keep = head(name)
    _, args = arguments(name, f"out/{name}")
    seed = re.search(r"--random-seed (\d+)", opts)
    res = {"recipe": f"recipes/{name}.yml", "command": shlex.join([tool] + args), "seed": int(seed.group(1)) if seed else None,
           "made_with": versions(), "result": "error" if error else "ok"}
    if error:
        res["error"] = error
    if warned:
        res["warnings"] = warned
    if not error:
        res["files"] = sorted(os.path.relpath(os.path.join(d, f), out).replace(os.sep, "/")
                              for d, _, fs in os.walk(out) for f in fs)
        last = f"{out}/final" if tool == "mergekit-multi" else out
        c = json.load(open(f"{last}/config.json"))
        res["config"] = {k: c.get(k) for k in ("architectures", "num_hidden_layers", "vocab_size", "tie_word_embeddings",
                                               "torch_dtype", "dtype")}
        if name.startswith("tokenizer") and os.path.exists(f"{last}/tokenizer.json"):
            t = json.load(open(f"{last}/tokenizer.json"))
            ids = dict(t["model"]["vocab"])
            ids.update({e["content"]: e["id"] for e in t["added_tokens"]})
            res["vocab"] = [k for k, _ in sorted(ids.items(), key=lambda e: e[1])]
            res["vocab_ids"] = sorted(ids.values())
            res["added_tokens"] = [[e["id"], e["content"], e["special"]] for e in t["added_tokens"]]
        if len([f for f in res["files"] if f.endswith(".safetensors")]) > 1 and tool != "mergekit-multi":
            res["index"] = json.load(open(f"{out}/model.safetensors.index.json"))["metadata"]
        res["tensors"] = tensors_of(out)
    return res


def dump(path, res):
    """JSON with one line per tensor."""
    res = dict(res)
    tens = res.pop("tensors", None)
    for k in ("vocab", "vocab_ids", "added_tokens", "files"):
        if k in res:
            res[k] = f"@@{json.dumps(res[k], ensure_ascii=False)}@@"
    text = json.dumps(res, indent=1, ensure_ascii=False)
    text = re.sub(r'"@@(.*)@@"', lambda m: json.loads(f'"{m.group(1)}"'), text)
    if tens is not None:
        lines = ",\n  ".join(json.dumps(t, ensure_ascii=False) for t in tens)
        text = text.rstrip()[:-1].rstrip() + f',\n "tensors": [\n  {lines}\n ]\n}}'
    json.loads(text)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n")


def child(mode, names, env):
    e = {**os.environ, **GOLD, **env}
    subprocess.run([sys.executable, os.path.abspath(__file__), "--pass", mode, *names], env=e, check=True, cwd=HERE)


def one_pass(mode, names):
    """Runs in a child whose environment is fixed; leaves WORK/MODE.json."""
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    order_sets(mode == "set_order")
    got = {}
    for n in names:
        if mode == "gold":
            got[n] = describe(n, f"{WORK}/out/{n}")
        else:
            error, _ = merge(n, f"{WORK}/{mode}/{n}")
            got[n] = {"error": error, "tensors": [] if error else tensors_of(f"{WORK}/{mode}/{n}")}
            shutil.rmtree(f"{WORK}/{mode}/{n}")
    json.dump(got, open(f"{WORK}/{mode}.json", "w"))


def same(a, b):
    strip = lambda r: [(t["name"], t["dtype"], t["shape"], t["sha256"]) for t in r.get("tensors") or []]
    return strip(a) == strip(b) and a.get("result") == b.get("result")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*")
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--cli", action="store_true")
    ap.add_argument("--pass", dest="mode", help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.chdir(HERE)
    os.makedirs(WORK, exist_ok=True)
    if a.mode:
        return one_pass(a.mode, a.names)
    names, bad = names_of(a.names), 0
    if a.cli:
        for n in names:
            out = f"{WORK}/cli/{n}"
            shutil.rmtree(out, ignore_errors=True)
            tool, args = arguments(n, out)
            p = subprocess.run([os.path.join(os.path.dirname(sys.executable), tool)] + args, env={**os.environ, **GOLD},
                               capture_output=True, text=True)
            want = json.load(open(f"expected/{n}.json"))
            got = {"result": "error" if p.returncode else "ok", "tensors": [] if p.returncode else tensors_of(out)}
            ok = same(got, want)
            bad += not ok
            print(f"{'ok     ' if ok else 'DIFFERS'} {n} (exit {p.returncode})")
        sys.exit(bool(bad))
    child("gold", names, {})
    gold = json.load(open(f"{WORK}/gold.json"))
    if a.check:
        for n in names:
            ok = same(gold[n], json.load(open(f"expected/{n}.json")))
            bad += not ok
            print(f"{'ok     ' if ok else 'DIFFERS'} {n}")
        sys.exit(bool(bad))
    for v, env in VARIANTS.items():
        child(v, names, env)
        other = json.load(open(f"{WORK}/{v}.json"))
        label = v
        for n in names:
            if bool(gold[n].get("error")) != bool(other[n]["error"]):
                gold[n].setdefault("result_varies_with", []).append(label)
            sha = {(t["file"], t["name"]): t["sha256"] for t in other[n]["tensors"]}
            for t in gold[n].get("tensors", []):
                if sha.get((t["file"], t["name"])) != t["sha256"] and label not in t.get("varies_with", []):
                    t.setdefault("varies_with", []).append(label)
    os.makedirs("expected", exist_ok=True)
    for n in names:
        if head(n)[2] and not gold[n].get("error"):
            shutil.copy(f"{WORK}/out/{n}/model.safetensors", f"expected/{n}.safetensors")
        dump(f"expected/{n}.json", gold[n])
        t = gold[n].get("tensors", [])
        v = {}
        for x in t:
            for k in x.get("varies_with", []):
                v[k] = v.get(k, 0) + 1
        print(f"{gold[n]['result']:5} {n}: {len(t)} tensors{', varies ' + str(v) if v else ''}"
              f"{'; ' + gold[n]['error']['type'] + ': ' + gold[n]['error']['text'][:90] if gold[n].get('error') else ''}")


if __name__ == "__main__":
    main()
