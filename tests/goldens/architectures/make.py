#!/usr/bin/env python3
"""make.py: names and shapes of the tensors that transformers' classes have of small configs, and how many parameters they have of a config
class without arguments: architectures.json. Needs torch and transformers (4.57.6 and 2.15.0 were there); no weights are made (device "meta").

A case is [class, config's arguments]. What is listed is what save_pretrained writes: a parameter that is another one under a second name is
not listed twice, and buffers that are not saved are left out.
"""

import json
import pathlib

import torch
import transformers
from transformers.modeling_utils import no_init_weights

HERE = pathlib.Path(__file__).resolve().parent

SMALL = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6}
GROUPED = dict(SMALL, num_key_value_heads=2)
MOE = dict(GROUPED, num_hidden_layers=3, num_experts=3, moe_intermediate_size=10)
BERT = dict(SMALL, max_position_embeddings=16)

CASES = {
    "mixtral": ["MixtralForCausalLM", dict(GROUPED, num_local_experts=3)],
    "mixtral_head_dim": ["MixtralForCausalLM", dict(GROUPED, num_local_experts=2, head_dim=8, tie_word_embeddings=True)],
    "qwen2_moe": ["Qwen2MoeForCausalLM", dict(MOE, shared_expert_intermediate_size=14)],
    "qwen2_moe_dense_layers": ["Qwen2MoeForCausalLM", dict(MOE, shared_expert_intermediate_size=14, num_hidden_layers=5,
                                                           mlp_only_layers=[3], decoder_sparse_step=2, qkv_bias=False)],
    "qwen3_moe": ["Qwen3MoeForCausalLM", dict(MOE, head_dim=8)],
    "qwen3_moe_dense_layers": ["Qwen3MoeForCausalLM", dict(MOE, head_dim=8, mlp_only_layers=[0], attention_bias=True)],
    "qwen3_moe_no_experts": ["Qwen3MoeForCausalLM", dict(MOE, head_dim=8, num_experts=0)],
    "gemma": ["GemmaForCausalLM", dict(GROUPED, head_dim=8)],
    "gemma_bias": ["GemmaForCausalLM", dict(GROUPED, head_dim=8, attention_bias=True, tie_word_embeddings=False)],
    "gpt2": ["GPT2LMHeadModel", {"vocab_size": 40, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 6}],
    "gpt2_inner": ["GPT2LMHeadModel", {"vocab_size": 40, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 6, "n_inner": 50,
                                       "tie_word_embeddings": False}],
    "gpt2_base": ["GPT2Model", {"vocab_size": 40, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 6}],
    "gpt_neox": ["GPTNeoXForCausalLM", SMALL],
    "gpt_neox_tied": ["GPTNeoXForCausalLM", dict(SMALL, attention_bias=False, tie_word_embeddings=True)],
    "starcoder2": ["Starcoder2ForCausalLM", GROUPED],
    "starcoder2_no_bias": ["Starcoder2ForCausalLM", dict(GROUPED, use_bias=False, tie_word_embeddings=False)],
    "stablelm": ["StableLmForCausalLM", GROUPED],
    "stablelm_norms": ["StableLmForCausalLM", dict(GROUPED, use_qkv_bias=True, qk_layernorm=True, use_parallel_residual=True)],
    "falcon_7b": ["FalconForCausalLM", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6}],
    "falcon_40b": ["FalconForCausalLM", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6,
                                         "num_kv_heads": 2, "new_decoder_architecture": True}],
    "falcon_11b": ["FalconForCausalLM", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_kv_heads": 2,
                                         "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 50}],
    "falcon_rw": ["FalconForCausalLM", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "alibi": True,
                                        "multi_query": False, "parallel_attn": False, "bias": True, "tie_word_embeddings": False}],
    "cohere": ["CohereForCausalLM", GROUPED],
    "cohere_norms": ["CohereForCausalLM", dict(GROUPED, use_qk_norm=True, attention_bias=True, tie_word_embeddings=False)],
    "cohere2": ["Cohere2ForCausalLM", GROUPED],
    "olmo2": ["Olmo2ForCausalLM", GROUPED],
    "olmo2_bias": ["Olmo2ForCausalLM", dict(SMALL, attention_bias=True, tie_word_embeddings=True)],
    "granite": ["GraniteForCausalLM", GROUPED],
    "granite_bias": ["GraniteForCausalLM", dict(SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)],
    "exaone4": ["Exaone4ForCausalLM", GROUPED],
    "mamba": ["MambaForCausalLM", {"vocab_size": 40, "hidden_size": 40, "num_hidden_layers": 2, "state_size": 5, "conv_kernel": 3}],
    "mamba_bias": ["MambaForCausalLM", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "expand": 1.5, "use_bias": True,
                                        "use_conv_bias": False, "time_step_rank": 7, "tie_word_embeddings": False}],
    "bert": ["BertModel", BERT],
    "bert_masked": ["BertForMaskedLM", BERT],
    "bert_pretraining": ["BertForPreTraining", dict(BERT, tie_word_embeddings=False)],
    "bert_classes": ["BertForSequenceClassification", dict(BERT, num_labels=3)],
    "bert_two_classes": ["BertForSequenceClassification", BERT],
    "bert_tokens": ["BertForTokenClassification", dict(BERT, num_labels=5)],
    "bert_answers": ["BertForQuestionAnswering", BERT],
    "roberta": ["RobertaModel", BERT],
    "roberta_masked": ["RobertaForMaskedLM", BERT],
    "roberta_classes": ["RobertaForSequenceClassification", dict(BERT, num_labels=3)],
    "roberta_tokens": ["RobertaForTokenClassification", BERT],
    "roberta_answers": ["RobertaForQuestionAnswering", BERT],
    "xlm_roberta": ["XLMRobertaModel", BERT],
    "xlm_roberta_masked": ["XLMRobertaForMaskedLM", BERT],
    "xlm_roberta_classes": ["XLMRobertaForSequenceClassification", dict(BERT, num_labels=3)],
    "xlm_roberta_tokens": ["XLMRobertaForTokenClassification", BERT],
    "xlm_roberta_answers": ["XLMRobertaForQuestionAnswering", BERT],
    "distilbert": ["DistilBertModel", {"vocab_size": 40, "dim": 24, "hidden_dim": 36, "n_layers": 2, "n_heads": 6, "max_position_embeddings": 16}],
    "distilbert_masked": ["DistilBertForMaskedLM", {"vocab_size": 40, "dim": 24, "hidden_dim": 36, "n_layers": 2, "n_heads": 6}],
    "distilbert_classes": ["DistilBertForSequenceClassification", {"vocab_size": 40, "dim": 24, "hidden_dim": 36, "n_layers": 2, "num_labels": 4}],
    "distilbert_tokens": ["DistilBertForTokenClassification", {"vocab_size": 40, "dim": 24, "hidden_dim": 36, "n_layers": 2}],
    "distilbert_answers": ["DistilBertForQuestionAnswering", {"vocab_size": 40, "dim": 24, "hidden_dim": 36, "n_layers": 2}],
}


def config_of(config, name):
    """config.json as save_pretrained writes it: what differs from the class' defaults, and the architecture."""
    written = json.loads(config.to_json_string(use_diff=True))
    for key in ("transformers_version", "torch_dtype", "dtype"):
        written.pop(key, None)
    return dict(written, architectures=[name])


def tensors_of(model):
    parameters = {name: list(tensor.shape) for name, tensor in model.named_parameters()}
    every_name = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in every_name}
    return {**parameters, **buffers}


def main():
    cases, defaults = {}, {}
    for name, (class_name, arguments) in CASES.items():
        kind = getattr(transformers, class_name)
        config = kind.config_class(**arguments)
        with torch.device("meta"), no_init_weights():
            model = kind(config)
            model.tie_weights()  # no_init_weights leaves it out
            cases[name] = {"config": config_of(config, class_name), "tensors": tensors_of(model)}
            if class_name not in defaults:
                plain = kind(kind.config_class())
                plain.tie_weights()
                defaults[class_name] = {"model_type": plain.config.model_type, "parameters": sum(p.numel() for p in plain.parameters())}
    lines = [f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    totals = [f" {json.dumps(name)}: {json.dumps(total)}" for name, total in defaults.items()]
    made_by = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    (HERE / "architectures.json").write_text("{\n" + f'"made_by": {json.dumps(made_by)},\n'
                                             + '"cases": {\n' + ",\n".join(lines) + '\n},\n'
                                             + '"defaults": {\n' + ",\n".join(totals) + "\n}\n}\n")


if __name__ == "__main__":
    main()
