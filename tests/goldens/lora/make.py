#!/usr/bin/env python3
"""Makes adapters with PEFT and what PEFT's merge_and_unload() makes of them, for lora_golden_test.cc.

    pip install torch transformers peft        # made with torch 2.15.0, transformers 4.57.6, peft 0.21.2
    python3 make.py                            # writes into its own folder

Every case is a folder: base/ (config.json, model.safetensors), adapter/ as save_pretrained() writes it, and
merged.safetensors: the state after PeftModel.from_pretrained(base, adapter).merge_and_unload(), as PEFT does it by
default (factors in float32, no safe_merge), of the tensors that the merge changed.
"""

import json
import pathlib
import shutil

import peft
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).parent

LLAMA = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=32,
             max_position_embeddings=64, tie_word_embeddings=False)


def llama(dtype, **more):
    config = transformers.LlamaConfig(**{**LLAMA, **more})
    return transformers.LlamaForCausalLM(config).to(dtype)


def gpt2(dtype):
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=24)
    return transformers.GPT2LMHeadModel(config).to(dtype)


def case(name, model, torch_bin=False, adapter_dtype=None, **config):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    generator = torch.Generator().manual_seed(sum(name.encode()))
    for parameter in model.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.05).to(parameter.dtype)
    dtype = model.dtype
    model.save_pretrained(folder / "base")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **config))
    for key, parameter in tuned.named_parameters():
        if not parameter.requires_grad:
            continue
        # Factors of a size that changes weights by about as much as they are; the rest moved a little.
        if "lora_" in key:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        else:
            parameter.data = (parameter.data.float() + torch.randn(parameter.shape, generator=generator) * 0.01).to(parameter.dtype)
    tuned.peft_config["default"].base_model_name_or_path = "made/base"
    if adapter_dtype is not None:
        tuned = tuned.to(adapter_dtype)
    tuned.save_pretrained(folder / "adapter", safe_serialization=not torch_bin)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)

    base = type(model).from_pretrained(folder / "base", dtype=dtype)
    merged = peft.PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()
    state = merged.state_dict()
    changed = {k: v.contiguous().clone() for k, v in state.items() if k not in before or not torch.equal(v, before[k])}
    if base.config.tie_word_embeddings:
        changed.pop("lm_head.weight", None)
    safetensors.torch.save_file(changed, folder / "merged.safetensors")
    for extra in ("generation_config.json",):
        (folder / "base" / extra).unlink(missing_ok=True)
    print(name, len(changed), "tensors changed")


def main():
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    case("plain", llama(torch.float32), r=4, lora_alpha=12, target_modules=attention)
    case("bf16", llama(torch.bfloat16), r=8, lora_alpha=16, target_modules="all-linear")
    case("bf16_factors", llama(torch.bfloat16), adapter_dtype=torch.bfloat16, r=8, lora_alpha=16, target_modules=attention)
    case("patterns", llama(torch.float32), r=2, lora_alpha=8, use_rslora=True, target_modules="all-linear",
         rank_pattern={"q_proj": 6, r"layers\.1\.mlp\.(up|gate)_proj": 3, "^model.layers.0.self_attn.k_proj": 5},
         alpha_pattern={"down_proj": 3, r".*\.0\.self_attn\.v_proj": 20, "proj": 7})
    case("embedding", llama(torch.float32), r=3, lora_alpha=6, target_modules=["embed_tokens", "lm_head", "q_proj"],
         modules_to_save=["norm"])
    case("tied", llama(torch.float16, tie_word_embeddings=True), torch_bin=True, r=3, lora_alpha=6,
         target_modules=["embed_tokens", "up_proj"])
    case("saved", llama(torch.bfloat16), r=4, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"])
    case("biases", llama(torch.float32, attention_bias=True), r=4, lora_alpha=4, bias="all", target_modules=["q_proj", "o_proj"])
    case("gpt2", gpt2(torch.float32), r=4, lora_alpha=8, fan_in_fan_out=True, target_modules=["c_attn", "c_proj", "c_fc"])
    (HERE / "versions.json").write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__,
                                                    "peft": peft.__version__}, indent=2) + "\n")


if __name__ == "__main__":
    main()
