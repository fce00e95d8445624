// Gemma 3, text only: Gemma 2 with norms over each head of q and k, no soft caps by default, five sliding layers to a
// full one, and rotary embedding of its own for sliding layers. Defaults are those of transformers' Gemma3TextConfig.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

using nlohmann::ordered_json;

// Published configs say sliding_window_pattern where transformers 5 says layer_types.
ordered_json ByPattern(const ordered_json& config) {
  const auto given = config.find("sliding_window_pattern");
  const ordered_json pattern = given == config.end() || given->is_null() ? ordered_json(6) : *given;
  return FullEvery(config, WholeNumber(pattern).value_or(0));
}

void DropPattern(ordered_json* config) {
  const auto types = config->find("layer_types");
  if (types == config->end() || types->is_null()) return;  // not derived: what it hangs on stays to be seen
  config->erase("sliding_window_pattern");
  config->erase("_sliding_window_pattern");
}

constexpr std::array<ConfigDefault, 22> kDefaults = {{
    {"attention_bias", "false"},
    {"attn_logit_softcapping", "null"},
    {"bos_token_id", "2"},
    {"eos_token_id", "1"},
    {"final_logit_softcapping", "null"},
    {"head_dim", "256"},
    {"hidden_activation", "\"gelu_pytorch_tanh\""},
    {"hidden_size", "2304"},
    {"intermediate_size", "9216"},
    {"max_position_embeddings", "131072"},
    {"model_type", "\"gemma3_text\""},
    {"num_attention_heads", "8"},
    {"num_hidden_layers", "26"},
    {"num_key_value_heads", "4"},
    {"pad_token_id", "0"},
    {"query_pre_attn_scalar", "256"},
    {"rms_norm_eps", "1e-06"},
    {"sliding_window", "4096"},
    {"tie_word_embeddings", "true"},
    {"use_bidirectional_attention", "false"},
    {"vocab_size", "262208"},
    {"layer_types", "", ByPattern},
}};

constexpr std::array<TensorRule, 20> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.bias", Dim::kQuery, Dim::kNone, When::kAttentionBias},
    {Step::kKey, "model.layers.*.self_attn.k_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
    {Step::kValue, "model.layers.*.self_attn.v_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
    {Step::kQueryNorm, "model.layers.*.self_attn.q_norm.weight", Dim::kHeadDim},
    {Step::kKeyNorm, "model.layers.*.self_attn.k_norm.weight", Dim::kHeadDim},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.bias", Dim::kHidden, Dim::kNone, When::kAttentionBias},
    {Step::kPostAttentionNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kMlpNorm, "model.layers.*.pre_feedforward_layernorm.weight", Dim::kHidden},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kPostMlpNorm, "model.layers.*.post_feedforward_layernorm.weight", Dim::kHidden},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kGemma3Text = {.name = "Gemma3ForCausalLM",
                                      .model_type = "gemma3_text",
                                      .defaults = kDefaults,
                                      .rope_theta = 1e6,
                                      .sliding_rope_theta = 10000,
                                      .tensors = kTensors,
                                      .traits = {.activation_key = "hidden_activation",
                                                 .norms_add_one = true,
                                                 .scales_embeddings = true,
                                                 .attention_scale_key = "query_pre_attn_scalar",
                                                 .attention_softcap_key = "attn_logit_softcapping",
                                                 .final_softcap_key = "final_logit_softcapping",
                                                 .windows = Windows::kLayerTypes},
                                      .settle = DropPattern};

}  // namespace

const Architecture& gemma3_text() { return kGemma3Text; }

}  // namespace sluice::checkpoint::architectures
