"""Evidence 1: `digest recipe.yml` is the root that `merge` then writes, for every method, at 1 and 2 threads, 64 MiB and 4 GiB of
budget, parents in 1 or 4 shards; and `verify merged/ recipe.yml` says IDENTICAL."""

import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import budgets

SLUICE = os.environ["SLUICE"]
LAYERS, HIDDEN, FFN, VOCAB = 2, 256, 704, 3000


def shapes():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        for name in "qkvo":
            yield prefix + f"self_attn.{name}_proj.weight", (HIDDEN, HIDDEN)
        yield prefix + "mlp.gate_proj.weight", (FFN, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (FFN, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, FFN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


# bf16 with small exponents: the high byte (sign and seven bits of exponent) from a short list.
HIGH = bytes((0x3B, 0x3C, 0xBB, 0xBC)[i % 4] for i in range(256))


def weights(name, count, seed):
    generator = random.Random(f"{name} {seed}")
    data = bytearray(generator.randbytes(2 * count))
    data[1::2] = bytes(data[1::2]).translate(HIGH)
    return data


def finetune(base, name, seed):
    """Another low byte, in nine of ten places: an update within the same binade."""
    generator = random.Random(f"update {name} {seed}")
    data = bytearray(base)
    low = bytearray(data[0::2])
    noise = generator.randbytes(len(low))
    data[0::2] = bytes((a + n // 16) & 255 if n % 10 else a for a, n in zip(low, noise))
    return data


def write_model(folder, tensors, shards):
    os.makedirs(folder)
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        part = names[shard * len(names) // shards:(shard + 1) * len(names) // shards]
        header, offset = {}, 0
        for name in part:
            shape, data = tensors[name]
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        text = json.dumps(header).encode()
        with open(os.path.join(folder, file), "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in part:
                out.write(tensors[name][1])
                weight_map[name] = file
    if shards > 1:
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as out:
            json.dump({"metadata": {}, "weight_map": weight_map}, out)
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
                   "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
                   "num_key_value_heads": 4, "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                   "tie_word_embeddings": False, "torch_dtype": "bfloat16", "max_position_embeddings": 128}, out)


def run(*arguments, expect=0):
    done = subprocess.run([SLUICE, *arguments, "--json", "--quiet"], capture_output=True, text=True)
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


# Of parameters that a method needs: 0.5, but for these; and of some that it has a default for.
VALUES = {("nearswap", "t"): 0.001, ("sce", "select_topk"): 0.4, ("nuslerp", "nuslerp_flatten"): "false",
          ("model_stock", "filter_wise"): "true"}


def recipe(method, models):
    """As many models as the method takes, each with its own weight and density where it has those."""
    name = method["name"]
    per_model = {p["name"] for p in method["parameters"] if p["scope"] == "model"}
    lines = [f"merge_method: {name}", "dtype: bfloat16"]
    if method["needs_base"]:
        lines.append("base_model: base")
    lines.append("models:")
    for i, model in enumerate(models[:method["max_models"]]):
        values = {"weight": 0.2 + 0.1 * i, "density": 0.4 + 0.15 * i}
        given = ", ".join(f"{key}: {value}" for key, value in values.items() if key in per_model)
        lines += [f"  - model: {model}", f"    parameters: {{{given}}}"]
    needed = {p["name"] for p in method["parameters"] if p["scope"] == "recipe" and p["default"] is None}
    needed |= {key for of, key in VALUES if of == name}
    lines.append("parameters: {" + ", ".join(f"{key}: {VALUES.get((name, key), 0.5)}" for key in sorted(needed)) + "}")
    return "\n".join(lines) + "\n"


def check_recipe_of_recipes(folder):
    """What a method must know of a whole tensor, of a tensor that hangs on such knowledge itself: as if that were merged first."""
    def write(name, method, model, parameters):
        path = os.path.join(folder, name)
        with open(path, "w") as out:
            out.write(f"merge_method: {method}\ndtype: float32\nbase_model: base\nparameters: {{{parameters}}}\n"
                      f"models:\n  - model: {model}\n")
        return path

    inner = write("inner.yml", "ties", "ft1", "weight: 0.5, density: 0.4")
    merged = os.path.join(folder, "inner")
    run("merge", inner, "-o", merged)
    for method, parameters in (("slerp", "t: 0.5"), ("dare_ties", "weight: 0.5, density: 0.5"), ("arcee_fusion", "")):
        roots = set()
        for model, budget in (("inner", "4GiB"), ("inner.yml", "4GiB"), ("inner.yml", budgets.mebibytes(64))):
            roots.add(run("digest", write("outer.yml", method, model, parameters), "--max-memory", budget)["root"])
        assert len(roots) == 1, f"{method} of a recipe: {roots}"
    shutil.rmtree(merged)


def main():
    methods = {m["name"]: m for m in run("merge", "--list-methods")["methods"]}
    assert len(methods) >= 5, methods
    top = tempfile.mkdtemp(prefix="sluice_evidence_")
    try:
        base = {name: (shape, weights(name, shape[0] * (shape[1] if len(shape) > 1 else 1), 0)) for name, shape in shapes()}
        tunes = {f"ft{i}": {name: (shape, finetune(data, name, i)) for name, (shape, data) in base.items()} for i in (1, 2, 3)}
        for shards in (1, 4):
            folder = os.path.join(top, f"parents{shards}")
            write_model(os.path.join(folder, "base"), base, shards)
            for name, tensors in tunes.items():
                write_model(os.path.join(folder, name), tensors, shards)
            for method in methods:
                with open(os.path.join(folder, method + ".yml"), "w") as out:
                    out.write(recipe(methods[method], list(tunes)))
        roots = {}
        for method in methods:
            seen = set()
            small = budgets.mebibytes(96 if method.startswith("breadcrumbs") else 64)  # two thresholds for each model
            for shards, threads, budget in itertools.product((1, 4), ("1", "2"), (small, "4GiB")):
                common = ("--threads", threads, "--max-memory", budget)
                path = os.path.join(top, f"parents{shards}", method + ".yml")
                merged = os.path.join(top, "merged")
                digest = run("digest", path, *common)["root"]
                written = run("merge", path, "-o", merged, *common)["root"]
                verdict = run("verify", merged, path, *common)["verdict"]
                assert digest == written, f"{method}: digest {digest}, merge {written}"
                assert run("digest", merged)["root"] == written
                assert verdict == "IDENTICAL", f"{method}: {verdict}"
                seen.add(written)
                shutil.rmtree(merged)
            assert len(seen) == 1, f"{method}: {len(seen)} roots over shards, threads and budgets"
            roots[method] = seen.pop()
            print(f"{method}: {roots[method]}")
        assert len(set(roots.values())) == len(methods), "two methods made the same model"
        check_recipe_of_recipes(os.path.join(top, "parents1"))
    finally:
        shutil.rmtree(top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
