#!/usr/bin/env python3
"""Writes the tiny models that the recipes merge. Needs numpy only.

    python3 tools/goldens/mergekit_make_models.py [--out models] [--check]

Every number comes from PCG64's raw 64-bit words (a stream numpy keeps stable) keyed by
sha256("SET/model/tensor"), added up as integers: no libm, no library distribution, so the bytes are the
same everywhere. models.sha256 lists every file; --check compares instead of writing the list.
"""
import argparse, hashlib, json, os, sys
import numpy as np

SET = "set1"
CODE = {"BF16": 2, "F16": 2, "F32": 4}


# ---- numbers -----------------------------------------------------------------------------------
def words(key, n):
    seed = int.from_bytes(hashlib.sha256(f"{SET}/{key}".encode()).digest()[:16], "little")
    return np.random.PCG64(seed).random_raw(n)


def bell(key, shape, scale):
    """Sum of four 16-bit uniforms: mean 0, standard deviation `scale`."""
    n = int(np.prod(shape)) if shape else 1
    w = words(key, n)
    s = np.zeros(n, np.int64)
    for k in range(4):
        s += ((w >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.int64)
    return ((s - 2 * 65535).astype(np.float64) * (scale / 37837.0)).reshape(shape)


def bf16_bits(x):
    b = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((b + ((b >> np.uint64(16)) & np.uint64(1)) + np.uint64(0x7FFF)) >> np.uint64(16)).astype("<u2")


def bf16_value(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(x, dtype):
    x = np.asarray(x, np.float64).astype(np.float32)
    if dtype == "BF16":
        return bf16_bits(x).tobytes()
    return x.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def rounded(x, dtype):
    """What a reader of the stored tensor sees, as float64."""
    x = np.asarray(x, np.float64).astype(np.float32)
    if dtype == "BF16":
        x = bf16_value(bf16_bits(x))
    elif dtype == "F16":
        x = x.astype(np.float16)
    return x.astype(np.float64)


# ---- files -------------------------------------------------------------------------------------
def write_safetensors(path, tensors):
    """tensors: list of (name, dtype, shape, bytes), stored in the order given."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for t in tensors:
            f.write(t[3])


def dump_json(path, obj):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(obj, f, indent=2, ensure_ascii=False)
        f.write("\n")


def write_model(root, name, config, tensors, shards=1, tokenizer=None, extra=None):
    d = os.path.join(root, name)
    os.makedirs(d, exist_ok=True)
    dump_json(os.path.join(d, "config.json"), config)
    if shards == 1:
        write_safetensors(os.path.join(d, "model.safetensors"), tensors)
    else:
        per = -(-len(tensors) // shards)
        index = {}
        for s in range(shards):
            fn = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
            part = tensors[s * per:(s + 1) * per]
            write_safetensors(os.path.join(d, fn), part)
            index.update({t[0]: fn for t in part})
        dump_json(os.path.join(d, "model.safetensors.index.json"),
                  {"metadata": {"total_size": sum(len(t[3]) for t in tensors)}, "weight_map": index})
    for fn, obj in {**(tokenizer or {}), **(extra or {})}.items():
        dump_json(os.path.join(d, fn), obj)


# ---- architectures -----------------------------------------------------------------------------
TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


class Arch:
    def __init__(self, hidden, layers, ffn, heads, kv, vocab, kind="llama", tied=False):
        self.h, self.l, self.f, self.nh, self.kv, self.v = hidden, layers, ffn, heads, kv, vocab
        self.kind, self.tied = kind, tied

    def shapes(self):
        h, f, k = self.h, self.f, self.h // self.nh * self.kv
        out = {"model.embed_tokens.weight": (self.v, h)}
        for i in range(self.l):
            p = f"model.layers.{i}."
            out.update({
                p + "input_layernorm.weight": (h,),
                p + "mlp.down_proj.weight": (h, f),
                p + "mlp.gate_proj.weight": (f, h),
                p + "mlp.up_proj.weight": (f, h),
                p + "post_attention_layernorm.weight": (h,),
                p + "self_attn.k_proj.weight": (k, h),
                p + "self_attn.o_proj.weight": (h, h),
                p + "self_attn.q_proj.weight": (h, h),
                p + "self_attn.v_proj.weight": (k, h)})
            if self.kind == "qwen2":
                out.update({p + "self_attn.q_proj.bias": (h,), p + "self_attn.k_proj.bias": (k,),
                            p + "self_attn.v_proj.bias": (k,)})
        out["model.norm.weight"] = (h,)
        if not self.tied:
            out["lm_head.weight"] = (self.v, h)
        return out

    def config(self, dtype):
        c = {"architectures": ["LlamaForCausalLM" if self.kind == "llama" else "Qwen2ForCausalLM"],
             "model_type": self.kind, "hidden_size": self.h, "intermediate_size": self.f,
             "num_hidden_layers": self.l, "num_attention_heads": self.nh, "num_key_value_heads": self.kv,
             "vocab_size": self.v, "hidden_act": "silu", "max_position_embeddings": 512,
             "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "initializer_range": 0.02, "use_cache": True,
             "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": self.tied,
             "torch_dtype": TORCH[dtype], "transformers_version": "4.45.2"}
        if self.kind == "llama":
            c.update({"attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0})
        return c


def base_values(arch, key, dtype, scale=0.05):
    out = {}
    for name, shape in arch.shapes().items():
        v = bell(f"{key}/{name}", shape, 0.1 if "norm" in name else scale)
        out[name] = rounded(v + 1.0 if "norm" in name else v, dtype)
    return out


def tuned_values(base, key, dtype, scale, unchanged=(), keep_every=0):
    """base + delta; tensors named in `unchanged` stay; of every 16 elements `keep_every` stay."""
    out = {}
    for name, v in base.items():
        if any(u in name for u in unchanged):
            out[name] = v
            continue
        d = bell(f"{key}/{name}", v.shape, scale)
        if keep_every:
            r = (words(f"{key}/keep/{name}", v.size) >> np.uint64(60)).astype(np.int64).reshape(v.shape)
            d = np.where(r < keep_every, 0.0, d)
        out[name] = rounded(v + d, dtype)
    return out


def pack(values, dtype, order=None):
    names = list(values) if order is None else sorted(values, key=order)
    return [(n, dtype, values[n].shape, encode(values[n], dtype)) for n in names]


# ---- tokenizers --------------------------------------------------------------------------------
def tokenizer_files(vocab, merges=(), added=(), name="test", chat_template=None):
    """A byte-free BPE over single letters. vocab: token -> id; added: list of (token, id, special)."""
    def entry(t, i, special):
        return {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": special}
    specials = [("<unk>", True), ("<s>", True), ("</s>", True)]
    add = [entry(t, vocab[t], s) for t, s in specials if t in vocab]
    add += [entry(t, i, s) for t, i, s in added]
    add.sort(key=lambda e: e["id"])
    tj = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": add, "normalizer": None,
          "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
          "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                    "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                    "ignore_merges": False, "vocab": vocab, "merges": [list(m) for m in merges]}}
    tc = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
          "unk_token": "<unk>", "model_max_length": 512, "clean_up_tokenization_spaces": False,
          "added_tokens_decoder": {str(e["id"]): {k: e[k] for k in e if k != "id"} for e in add}}
    if chat_template:
        tc["chat_template"] = chat_template
    return {"tokenizer.json": tj, "tokenizer_config.json": tc}


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def plain_vocab(n, shift=0):
    """<unk> <s> </s>, then letters, then two-letter tokens made by merges."""
    toks = ["<unk>", "<s>", "</s>"] + list(LETTERS[shift:] + LETTERS[:shift])
    merges = []
    for a in LETTERS:
        for b in LETTERS:
            if len(toks) + len(merges) >= n:
                break
            merges.append((a, b))
    toks = (toks + [a + b for a, b in merges])[:n]
    return {t: i for i, t in enumerate(toks)}, merges


# ---- the models of this set --------------------------------------------------------------------
def build(root):
    A = Arch(32, 3, 88, 4, 2, 64)
    gen = {"generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.7}}
    v64, m64 = plain_vocab(64)
    tok64 = tokenizer_files(v64, m64)

    # a_*: bfloat16, seven fine-tunes like the seed recipe's. Small deltas: many equal magnitudes (ties).
    base = base_values(A, "a_base", "BF16")
    write_model(root, "a_base", A.config("BF16"), pack(base, "BF16"), tokenizer=tok64, extra=gen)
    scales = [0.002, 0.003, 0.001, 0.004, 0.002, 0.006, 0.0005]
    for i, s in enumerate(scales, 1):
        v = tuned_values(base, f"a_ft{i}", "BF16", s,
                         unchanged=("layers.1.input_layernorm", "layers.0.mlp.up_proj") if i == 4 else (),
                         keep_every=8 if i == 6 else 0)
        t = pack(v, "BF16", order=(lambda n: hashlib.sha256(n.encode()).digest()) if i == 5 else None)
        if i == 2:  # old Llama checkpoints carry this buffer, which the architecture does not list
            t.append(("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (4,),
                      np.array([1.0, 0.1, 0.01, 0.001], "<f4").tobytes()))
        write_model(root, f"a_ft{i}", A.config("BF16"), t, shards=3 if i == 3 else 1, tokenizer=tok64)

    # a_big: like a_ft1, with six rows more in the embedding and the head, and no tokenizer
    B = Arch(32, 3, 88, 4, 2, 70)
    big = base_values(B, "a_big", "BF16")
    small = tuned_values(base, "a_big/tune", "BF16", 0.002)
    for n, v in small.items():
        if v.shape == big[n].shape:
            big[n] = v
        else:
            big[n][:v.shape[0]] = v
    write_model(root, "a_big", B.config("BF16"), pack(big, "BF16"))

    # a_wide: another hidden size, so every tensor differs in shape
    W = Arch(48, 3, 88, 4, 2, 64)
    write_model(root, "a_wide", W.config("BF16"), pack(base_values(W, "a_wide", "BF16"), "BF16"))

    # h_*, f_*: float16 and float32 relatives of a_base, own numbers
    for p, dt, n in (("h", "F16", 3), ("f", "F32", 3)):
        b = base_values(A, f"{p}_base", dt)
        write_model(root, f"{p}_base", A.config(dt), pack(b, dt), tokenizer=tok64)
        for i in range(1, n + 1):
            write_model(root, f"{p}_ft{i}", A.config(dt), pack(tuned_values(b, f"{p}_ft{i}", dt, 0.01), dt),
                        shards=2 if i == 2 else 1, tokenizer=tok64)

    # d_*: twelve layers, so that the order of names (0, 1, 10, 11, 2 ...) shows
    D = Arch(16, 12, 24, 2, 1, 32)
    b = base_values(D, "d_base", "BF16")
    write_model(root, "d_base", D.config("BF16"), pack(b, "BF16"))
    for i in (1, 2):
        write_model(root, f"d_ft{i}", D.config("BF16"), pack(tuned_values(b, f"d_ft{i}", "BF16", 0.01), "BF16"))

    # q_*: Qwen2 with biases
    Q = Arch(32, 2, 48, 4, 2, 40, kind="qwen2")
    b = base_values(Q, "q_base", "BF16")
    write_model(root, "q_base", Q.config("BF16"), pack(b, "BF16"))
    for i in (1, 2):
        write_model(root, f"q_ft{i}", Q.config("BF16"), pack(tuned_values(b, f"q_ft{i}", "BF16", 0.004), "BF16"))

    # e_*: tied embeddings (no lm_head in the files); e_ft2 stores a head of its own
    E = Arch(16, 2, 24, 2, 1, 32, tied=True)
    b = base_values(E, "e_base", "BF16")
    write_model(root, "e_base", E.config("BF16"), pack(b, "BF16"))
    write_model(root, "e_ft1", E.config("BF16"), pack(tuned_values(b, "e_ft1", "BF16", 0.01), "BF16"))
    U = Arch(16, 2, 24, 2, 1, 32)
    u = tuned_values({**b, "lm_head.weight": b["model.embed_tokens.weight"]}, "e_ft2", "BF16", 0.01)
    write_model(root, "e_ft2", U.config("BF16"), pack(u, "BF16"))

    # t_*: tokenizers that differ
    v48, m48 = plain_vocab(48)
    T = Arch(16, 1, 24, 2, 1, 48)
    b = base_values(T, "t_base", "BF16")
    write_model(root, "t_base", T.config("BF16"), pack(b, "BF16"), tokenizer=tokenizer_files(v48, m48),
                extra=gen)
    # t_add: three added tokens, two of them special
    T3 = Arch(16, 1, 24, 2, 1, 51)
    full = base_values(T3, "t_add", "BF16")
    tune = tuned_values(b, "t_add/tune", "BF16", 0.01)
    for n, v in tune.items():
        full[n] = v if v.shape == full[n].shape else np.concatenate([v, full[n][len(v):]])
    add = [("<|im_start|>", 48, True), ("<|im_end|>", 49, True), ("<tool>", 50, False)]
    write_model(root, "t_add", T3.config("BF16"), pack(full, "BF16"),
                tokenizer=tokenizer_files(v48, m48, add, chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}"))
    # t_perm: the same letters at other ids, one plain token more and one added token shared with t_add
    pv, _ = plain_vocab(48, shift=7)
    pv["zz"] = 48
    T4 = Arch(16, 1, 24, 2, 1, 50)
    write_model(root, "t_perm", T4.config("BF16"), pack(base_values(T4, "t_perm", "BF16"), "BF16"),
                tokenizer=tokenizer_files(pv, m48 + [("z", "z")], [("<|im_end|>", 49, True)],
                                          chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}"))
    # t_pad: t_base's tokenizer, but 64 rows: the embedding is padded
    T5 = Arch(16, 1, 24, 2, 1, 64)
    write_model(root, "t_pad", T5.config("BF16"), pack(base_values(T5, "t_pad", "BF16"), "BF16"),
                tokenizer=tokenizer_files(v48, m48))

    # lora_a: an adapter for a_base
    lora = []
    for i in range(3):
        for m, o in (("q_proj", 32), ("v_proj", 16)):
            p = f"base_model.model.model.layers.{i}.self_attn.{m}."
            for nm, sh in ((p + "lora_A.weight", (4, 32)), (p + "lora_B.weight", (o, 4))):
                lora.append((nm, "F32", sh, encode(bell(f"lora_a/{nm}", sh, 0.05), "F32")))
    d = os.path.join(root, "lora_a")
    os.makedirs(d, exist_ok=True)
    write_safetensors(os.path.join(d, "adapter_model.safetensors"), lora)
    dump_json(os.path.join(d, "adapter_config.json"),
              {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "models/a_base", "r": 4,
               "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
               "inference_mode": True, "target_modules": ["q_proj", "v_proj"]})

    # x_arch: an architecture that mergekit does not know
    c = E.config("BF16")
    c["architectures"], c["model_type"] = ["FooForCausalLM"], "llama"
    write_model(root, "x_arch", c, pack(base_values(E, "x_arch", "BF16"), "BF16"))
    # x_miss: a required tensor is absent
    m = dict(b := base_values(D, "d_base", "BF16"))
    del m["model.layers.3.mlp.up_proj.weight"]
    write_model(root, "x_miss", D.config("BF16"), pack(m, "BF16"))


def listing(root):
    out = []
    for d, _, files in os.walk(root):
        for f in files:
            p = os.path.join(d, f)
            out.append((os.path.relpath(p, root).replace(os.sep, "/"), hashlib.sha256(open(p, "rb").read()).hexdigest()))
    return "".join(f"{h}  {n}\n" for n, h in sorted(out))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    here = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/goldens/mergekit"))
    ap.add_argument("--out", default=os.path.join(here, "models"))
    ap.add_argument("--check", action="store_true")
    a = ap.parse_args()
    build(a.out)
    got, path = listing(a.out), os.path.join(here, "models.sha256")
    if a.check:
        ok = got == open(path).read()
        print("models.sha256:", "same" if ok else "DIFFERS")
        sys.exit(not ok)
    open(path, "w").write(got)


if __name__ == "__main__":
    main()
