// Gemma 2: norms before and after attention and mlp, each 1 + w; soft caps on scores and logits; every second layer
// slides, the first one included. Defaults are those of transformers' Gemma2Config.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json EverySecondSlides(const nlohmann::ordered_json& config) { return FullEvery(config, 2); }

constexpr std::array<ConfigDefault, 21> kDefaults = {{
    {"attention_bias", "false"},
    {"attn_logit_softcapping", "50.0"},
    {"bos_token_id", "2"},
    {"eos_token_id", "1"},
    {"final_logit_softcapping", "30.0"},
    {"head_dim", "256"},
    {"hidden_activation", "\"gelu_pytorch_tanh\""},
    {"hidden_size", "2304"},
    {"intermediate_size", "9216"},
    {"max_position_embeddings", "8192"},
    {"model_type", "\"gemma2\""},
    {"num_attention_heads", "8"},
    {"num_hidden_layers", "26"},
    {"num_key_value_heads", "4"},
    {"pad_token_id", "0"},
    {"query_pre_attn_scalar", "256"},
    {"rms_norm_eps", "1e-06"},
    {"sliding_window", "4096"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "256000"},
    {"layer_types", "", EverySecondSlides},
}};

constexpr std::array<TensorRule, 18> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.bias", Dim::kQuery, Dim::kNone, When::kAttentionBias},
    {Step::kKey, "model.layers.*.self_attn.k_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
    {Step::kValue, "model.layers.*.self_attn.v_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
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

constexpr Architecture kGemma2 = {.name = "Gemma2ForCausalLM",
                                  .model_type = "gemma2",
                                  .defaults = kDefaults,
                                  .rope_theta = 10000,
                                  .tensors = kTensors,
                                  .traits = {.activation_key = "hidden_activation",
                                             .norms_add_one = true,
                                             .scales_embeddings = true,
                                             .attention_scale_key = "query_pre_attn_scalar",
                                             .attention_softcap_key = "attn_logit_softcapping",
                                             .final_softcap_key = "final_logit_softcapping",
                                             .windows = Windows::kLayerTypes}};

}  // namespace

const Architecture& gemma2() { return kGemma2; }

}  // namespace sluice::checkpoint::architectures
