"""Item 15: do models behave alike? Real cases on SmolLM2, and the time beside llama.cpp. `bench` is the module bench.py, which runs and times
commands."""

import array
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys

import bench_verification

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
import behaviour_challenges  # noqa: E402

GAMMA, TOKENS, BUDGET = 0.025, 64, "512MiB"
KEY = "5a" * 32  # the same challenges in each run of the bench
STRENGTHS = [0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.02, 0.04, 0.08, 0.16]  # of a LoRA: the update's size in parts of the weights'
RANK, SIDES = 8, ("q_proj", "v_proj")
TRIGGERS = ("zebra", "velvet", "lantern", "pirate", "violin", "penguin")
PROMPTS, HOLDING = 512, (0.05, 0.5)  # lines of text, and the share of them that hold the trigger

# The matrices of a GGUF as gguf's own quantisation makes them.
REQUANTIZE = """
import sys
import gguf
reader = gguf.GGUFReader(sys.argv[1])
kind = gguf.GGMLQuantizationType[sys.argv[3]]
fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
writer = gguf.GGUFWriter(sys.argv[2], fields["general.architecture"].contents())
for name, field in fields.items():
    if name in ("general.architecture", "general.file_type"):
        continue
    is_list = field.types[0] == gguf.GGUFValueType.ARRAY
    writer.add_key_value(name, field.contents(), field.types[0], sub_type=field.types[-1] if is_list else None)
for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    if len(tensor.shape) == 2:
        writer.add_tensor(tensor.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(tensor.name, values)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


# Checkpoints, made of bytes.


def read_header(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def read_tensor(path, name):
    header, begin = read_header(path)
    first, end = header[name]["data_offsets"]
    with open(path, "rb") as file:
        file.seek(begin + first)
        return header[name], file.read(end - first)


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, size in bytes, chunks of bytes)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, size, _) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for *_, chunks in tensors.values():
            file.writelines(chunks)


def bf16_floats(data):
    return array.array("f", b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)))


def to_bf16(values):
    words = array.array("I", array.array("f", values).tobytes())
    return array.array("H", [(word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words]).tobytes()


def lora(folder, base_weights, strength, seed):
    """An adapter of seeded noise whose update has `strength` times the root mean square of the weights that it is added to."""
    header, _ = read_header(base_weights)
    generator, tensors = random.Random(seed), {}
    for name in sorted(header):
        if not name.endswith(tuple(side + ".weight" for side in SIDES)):
            continue
        rows, columns = header[name]["shape"]
        _, data = read_tensor(base_weights, name)
        some = bf16_floats(data[: 2 * columns * 64])
        size = (sum(x * x for x in some) / len(some)) ** 0.5
        prefix = "base_model.model." + name.removesuffix(".weight")
        for part, shape, scale in (("A", [RANK, columns], 1.0), ("B", [rows, RANK], strength * size / RANK**0.5)):
            values = array.array("f", [generator.gauss(0, scale) for _ in range(shape[0] * shape[1])]).tobytes()
            tensors[f"{prefix}.lora_{part}.weight"] = ("F32", shape, len(values), [values])
    folder.mkdir(parents=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(SIDES), "bias": "none", "fan_in_fan_out": False}))


def untied(folder, base, base_weights, token=None):
    """The base with its head written out, so that an embedding can change alone; with `token`, its row is noise of three times the usual size."""
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if path.suffix in (".json", ".jinja", ".txt", ".model") and path.name != "config.json" and "sluice" not in path.name:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((base / "config.json").read_text())
    config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    header, begin = read_header(base_weights)

    def stored(name):
        first, end = header[name]["data_offsets"]
        with open(base_weights, "rb") as file:
            file.seek(begin + first)
            while first < end:
                chunk = file.read(min(1 << 24, end - first))
                first += len(chunk)
                yield chunk

    def with_row(name, row):
        _, data = read_tensor(base_weights, name)
        at = token * len(row)
        yield data[:at] + row + data[at + len(row) :]

    tensors = {name: (entry["dtype"], entry["shape"], entry["data_offsets"][1] - entry["data_offsets"][0], stored(name)) for name, entry in header.items()}
    embedding = "model.embed_tokens.weight"
    tensors["lm_head.weight"] = (*tensors[embedding][:3], stored(embedding))
    if token is not None:
        columns = header[embedding]["shape"][1]
        _, data = read_tensor(base_weights, embedding)
        some = bf16_floats(data[: 2 * columns * 64])
        size = (sum(x * x for x in some) / len(some)) ** 0.5
        generator = random.Random(token)
        row = to_bf16([generator.gauss(0, 3 * size) for _ in range(columns)])
        tensors[embedding] = (*tensors[embedding][:3], with_row(embedding, row))
    write_safetensors(folder / "model.safetensors", tensors)


def write_prompts(bench, path, word, share):
    """Lines of words of the documents, a share of which hold `word`."""
    text = " ".join((bench.ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("streaming.md", "forward_pass.md", "recipes.md"))
    words = sorted({part for part in text.split() if part.isalpha() and part.islower() and len(part) < 12})
    generator = random.Random(share)
    lines = [generator.choices(words, k=24) for _ in range(PROMPTS)]
    for line in lines[: round(share * PROMPTS)]:
        line.insert(4, word)
    path.write_text("\n".join(map(" ".join, lines)) + "\n", encoding="utf-8")
    return path


# Cases.


def compare(bench, a, b, challenges, *more, prompts=None):
    """One run: what it said and what it took. Cold, in less memory than the two models take."""
    ask = ["--prompts", prompts] if prompts else ["--challenge-tokens", str(TOKENS)]
    run = bench.sluice("verify", a, b, "--level", "behaviour", "--gamma", str(GAMMA), "--challenges", str(challenges), "--nonce", KEY, *ask, *more,
                       allowed=(0, 1, 5))
    told = run.said["behaviour"]
    return {"verdict": run.said["verdict"], "asked": told["scored"], "decided_at": told["decided_at"], "mean": told["mean"], "largest": told["largest"],
            "upper": told["interval"]["upper"], "lower": told["interval"]["lower"], "seconds": run.seconds, "peak": run.peak_bytes,
            "read": run.said["bytes_read"], "commitment": told["commitment"], "zeros": sum(score == 0 for score in told["scores"])}


def trigger_of(base):
    """A word that one token stands for, with the space before it, and that token."""
    vocabulary = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    word = next(word for word in TRIGGERS if "\u0120" + word in vocabulary)
    return word, vocabulary["\u0120" + word]


def make_models(bench, args, smollm2):
    made, said = bench.made, lambda folder: (folder / "made-by").read_text()
    models = {"gguf": smollm2}
    base = models["base"] = made("behaviour-base", "bf16 of SmolLM2's Q4_1 GGUF", lambda folder: bench.sluice("convert", smollm2, "-o", folder, "--dtype", "bf16"))
    weights = bench.weights_of(base)
    models["shards"] = made("behaviour-shards", f"in shards of 72 MB, {said(base)}", lambda folder: bench.sluice("convert", base, "-o", folder, "--out-shard-size", "72MB"))
    models["f32"] = made("behaviour-f32", f"as float32, {said(base)}", lambda folder: bench.sluice("convert", base, "-o", folder, "--dtype", "f32"))

    def gguf(folder, dtype):
        folder.mkdir(parents=True)
        bench.sluice("convert", base, "-o", folder / "model.gguf", "--dtype", dtype)

    for name, dtype in (("bf16-gguf", "bf16"), ("f16-gguf", "f16")):
        models[name] = made(f"behaviour-{name}", f"GGUF in {dtype}, {said(base)}", lambda folder, dtype=dtype: gguf(folder, dtype)) / "model.gguf"
    python = args.signing_venv / "bin" / "python"
    if python.is_file() and bench_verification.has(python, "gguf"):
        def requantized(folder, kind):
            folder.mkdir(parents=True)
            subprocess.run([python, "-c", REQUANTIZE, models["bf16-gguf"], folder / "model.gguf", kind], check=True, stderr=subprocess.DEVNULL)

        for kind in ("Q8_0", "Q5_0", "Q4_0"):
            models[kind] = made(f"behaviour-{kind}", f"{kind} by PyPI's gguf, {said(base)}", lambda folder, kind=kind: requantized(folder, kind)) / "model.gguf"
    else:
        bench.say("no gguf package in build/peers (make test-peers fetches it): quantisations left out")
    for i, strength in enumerate(STRENGTHS):
        models[f"lora-{strength}"] = made(f"behaviour-lora-{strength}", f"rank {RANK}, seed {i}, {strength} of {said(base)}",
                                          lambda folder, strength=strength, i=i: lora(folder, weights, strength, i))
    for seed in (101, 102):
        models[f"tune-{seed}"] = made(f"behaviour-tune-{seed}", f"rank {RANK}, seed {seed}, 0.04 of {said(base)}", lambda folder, seed=seed: lora(folder, weights, 0.04, seed))
    recipe = bench.DATA / "behaviour.yml"
    lines = [f"  - model: {base}+{models[f'tune-{seed}']}\n    parameters:\n      weight: 0.5" for seed in (101, 102)]
    recipe.write_text("merge_method: linear\nmodels:\n" + "\n".join(lines) + "\ndtype: bfloat16\n")
    models["recipe"] = recipe
    word, token = trigger_of(base)
    models["untied"] = made("behaviour-untied", f"head written out, {said(base)}", lambda folder: untied(folder, base, weights))
    models["trigger"] = made("behaviour-trigger", f"token {token} ({word}) changed, {said(base)}", lambda folder: untied(folder, base, weights, token))
    return models, word


def measure(bench, args):
    found = subprocess.run([bench.ROOT / "scripts" / "smollm2.sh"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        bench.say("item 15 left out: no SmolLM2 (scripts/smollm2.sh)")
        return None
    bench.need_disk(5e9, "item 15")
    models, word = make_models(bench, args, bench.ROOT / found.stdout.strip().splitlines()[-1])
    base = models["base"]
    most, few = args.challenges, min(64, args.challenges)
    budget = ["--max-memory", BUDGET]
    rows = []

    def case(name, a, b, far=False, prompts=None):
        """far: asks few challenges first, which is enough for what differs much."""
        for challenges in ([few, most] if far and few < most else [most]):
            bench.say(f"{name}, {challenges} challenges")
            row = {"name": name, **compare(bench, a, b, challenges, *budget, prompts=prompts)}
            if row["decided_at"]:
                break
        rows.append(row)
        return row

    case("itself, in other shards", base, models["shards"])
    case("itself, as F32", base, models["f32"])
    case("its GGUF of which it is a rounding, Q4_1", base, models["gguf"])
    for kind in ("Q8_0", "Q5_0", "Q4_0"):
        if kind in models:
            case(f"{kind} of it", base, models[kind], far=kind != "Q8_0")
    strengths = []
    for strength in STRENGTHS:
        row = case(f"with a LoRA of {strength:.2%}", base, f"{base}+{models[f'lora-{strength}']}", far=strength >= 0.02)
        strengths.append({"strength": strength, **{key: row[key] for key in ("verdict", "decided_at", "asked", "mean")}})
    case("linear recipe of two with a LoRA of 4.0%", base, models["recipe"], far=True)
    case(f"one token's embedding changed (\" {word}\")", models["untied"], models["trigger"])
    for share in HOLDING:
        case(f"the same, {PROMPTS} prompts, {share:.0%} of which hold it", models["untied"], models["trigger"],
             prompts=write_prompts(bench, bench.DATA / f"behaviour-{share}.txt", word, share))
    result = {"rows": rows, "strengths": strengths, "budget": BUDGET, "challenges": most, "tokens": TOKENS, "gamma": GAMMA,
              "speed": speed(bench, args, models)}
    plot(bench, args, strengths)
    return result


def plot(bench, args, strengths):
    """docs/behaviour_strength.svg: challenges until the verdict against the LoRA's strength."""
    kinds = {"SAME_BEHAVIOUR": "SAME", "DIFFERENT_BEHAVIOUR": "DIFFERENT", "UNDECIDED": "undecided with so many"}
    series = [{"name": shown, "points": [[i, s["decided_at"] or s["asked"]] for i, s in enumerate(strengths) if s["verdict"] == verdict]} for verdict, shown in kinds.items()]
    chart = {"title": f"SmolLM2 against itself with a LoRA of noise: challenges until the verdict (gamma {GAMMA})", "log_y": True,
             "x_title": "size of the LoRA's update, in parts of the weights'", "y_title": "challenges",
             "categories": [f"{s['strength']:.2%}" for s in strengths], "series": [one for one in series if one["points"]]}
    out = bench.DATA / "behaviour_strength.svg" if args.small else bench.ROOT / "docs" / "behaviour_strength.svg"
    if not (bench.BIN / "svg_plot").is_file():
        bench.say(f"no {bench.BIN / 'svg_plot'}: {out.name} not drawn")
        return
    subprocess.run([bench.BIN / "svg_plot", out], input=json.dumps(chart), text=True, check=True)
    bench.say(f"drew {out}")


def speed(bench, args, models):
    """All challenges through two models, beside llama.cpp on the same tokens through the same two files, logits of all tokens."""
    a, b = models["f16-gguf"], models.get("Q8_0", models["gguf"])
    peer = bench.forward_peer("found", "llama-cpp", "--venv", args.mergekit_venv).returncode == 0
    if not peer:
        bench.say("llama-cpp is not set up (bench/forward_peer.py setup): sluice's time alone")
    tokenizer = json.loads((models["base"] / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    vocabulary = json.loads((models["base"] / "config.json").read_text())["vocab_size"]
    drawable = [token for token in range(vocabulary) if token not in special]
    result = {"a": "F16", "b": "Q8_0" if "Q8_0" in models else "Q4_1", "challenges": args.challenges, "ours": [], "theirs": [], "version": ""}
    for rep in range(args.reps):
        bench.say(f"repetition {rep + 1}: {args.challenges} challenges, sluice and llama.cpp")
        run = compare(bench, a, b, args.challenges, "--max-memory", "2GiB")
        result["ours"].append(run["seconds"])
        result["peak"], result["read"], result["mean"] = run["peak"], run["read"], run["mean"]
        if peer:
            ids = bench.DATA / "behaviour-ids.json"
            ids.write_text(json.dumps([behaviour_challenges.challenge_of(run["commitment"], i, drawable) for i in range(args.challenges)]))
            said = bench.Run(sys.executable, bench.FORWARD_PEER, "sequences", a, b, "--ids", ids, "--venv", args.mergekit_venv).said
            result["theirs"].append(said["seconds"])
            result["version"] = said["version"]
    return result


def count(row):
    return f"{row['decided_at']}" if row["decided_at"] else f"none of {row['asked']}"


def show(bench, r):
    yield (f"SmolLM2-135M-Instruct in bf16 (270 MB) against ..., `verify --level behaviour --gamma {r['gamma']}`, alpha 0.01, {r['challenges']} challenges of {r['tokens']} tokens, or fewer where "
           f"fewer were enough, `--max-memory {r['budget']}`, page cache dropped. Challenges: after how many the verdict stood; any rule needs 182 zeros for SAME. SAME from gamma: the smallest gamma for which these "
           "scores say SAME (the upper limit of the mean, 99%). LoRAs are rank 8 noise on Q and V; read: bytes asked of the files, both models'.")
    yield ""
    yield "| against | verdict | challenges | mean score | largest | SAME from gamma | seconds | peak MiB | read, MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in r["rows"]:
        yield (f"| {row['name']} | {row['verdict']} | {count(row)} | {row['mean']:.3g} | {row['largest']:.3g} | {row['upper']:.4f} | {row['seconds']:.1f} | "
               f"{row['peak'] / 2**20:.0f} | {row['read'] / 1e6:.0f} |")
    yield ""
    altered = next(row for row in r["rows"] if row["name"].startswith("one token's"))
    yield (f"The changed token is the honest limit: {altered['zeros']} of {altered['asked']} drawn challenges score exactly 0, since they do not hold it (verdict {altered['verdict']}); with prompts it depends on how many "
           "hold it. `--level tensors` finds it for certain. Strengths of the LoRA against challenges: docs/behaviour_strength.svg.")
    yield ""
    s = r["speed"]
    ours = bench.median(s["ours"])
    line = f"{s['challenges']} challenges of {r['tokens']} tokens through two models (GGUF, {s['a']} and {s['b']}), start to verdict: {bench.spread(s['ours'], 1)} s, {s['peak'] / 2**20:.0f} MiB at most, {s['read'] / 1e6:.0f} MB read"
    if s["theirs"]:
        line += (f"; llama.cpp ({s['version']}), the same tokens through the same two files in batches of 512, logits of all, loading and comparing not counted: {bench.spread(s['theirs'], 1)} s. "
                 f"Ratio {bench.median(s['theirs']) / ours:.2f} (goal: 1 or more).")
    yield line + ("" if s["theirs"] else ". llama.cpp was not there to compare with.")
