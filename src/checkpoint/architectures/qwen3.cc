// Qwen 3 (dense): a norm over each head of q and k, no biases by default. Defaults are those of transformers'
// Qwen3Config.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json ThirtyTwoOrAsManyAsHeads(const nlohmann::ordered_json& config) {
  return AsManyAsHeadsWhereNull(config, 32);
}

constexpr std::array<ConfigDefault, 17> kDefaults = {{
    {"attention_bias", "false"},
    {"head_dim", "128"},
    {"hidden_act", "\"silu\""},
    {"hidden_size", "4096"},
    {"intermediate_size", "22016"},
    {"max_position_embeddings", "32768"},
    {"max_window_layers", "28"},
    {"model_type", "\"qwen3\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"rms_norm_eps", "1e-06"},
    {"sliding_window", "4096"},
    {"tie_word_embeddings", "false"},
    {"use_sliding_window", "false"},
    {"vocab_size", "151936"},
    {"num_key_value_heads", "", ThirtyTwoOrAsManyAsHeads},
    {"layer_types", "", SlidingFromMaxWindowLayers},
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
    {Step::kQueryNorm, "model.layers.*.self_attn.q_norm.weight", Dim::kHeadDim},
    {Step::kKeyNorm, "model.layers.*.self_attn.k_norm.weight", Dim::kHeadDim},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.bias", Dim::kHidden, Dim::kNone, When::kAttentionBias},
    {Step::kMlpNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kQwen3 = {.name = "Qwen3ForCausalLM",
                                 .model_type = "qwen3",
                                 .defaults = kDefaults,
                                 .rope_theta = 10000,
                                 .tensors = kTensors,
                                 .traits = {.windows = Windows::kLayerTypes},
                                 .settle = DropUnusedWindow};

}  // namespace

const Architecture& qwen3() { return kQwen3; }

}  // namespace sluice::checkpoint::architectures
