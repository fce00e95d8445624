// Qwen 1.5, 2 and 2.5 (dense): Llama with biases on q, k and v, and a window only where use_sliding_window asks for it.
// Defaults are those of transformers' Qwen2Config.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json ThirtyTwoOrAsManyAsHeads(const nlohmann::ordered_json& config) {
  return AsManyAsHeadsWhereNull(config, 32);
}

constexpr std::array<ConfigDefault, 16> kDefaults = {{
    {"hidden_act", "\"silu\""},
    {"hidden_size", "4096"},
    {"intermediate_size", "22016"},
    {"max_position_embeddings", "32768"},
    {"max_window_layers", "28"},
    {"model_type", "\"qwen2\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"rms_norm_eps", "1e-06"},
    {"sliding_window", "4096"},
    {"tie_word_embeddings", "false"},
    {"use_sliding_window", "false"},
    {"vocab_size", "151936"},
    {"num_key_value_heads", "", ThirtyTwoOrAsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
    {"layer_types", "", SlidingFromMaxWindowLayers},
}};

constexpr std::array<TensorRule, 15> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.bias", Dim::kQuery},
    {Step::kKey, "model.layers.*.self_attn.k_proj.bias", Dim::kKeyValue},
    {Step::kValue, "model.layers.*.self_attn.v_proj.bias", Dim::kKeyValue},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kMlpNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kQwen2 = {.name = "Qwen2ForCausalLM",
                                 .model_type = "qwen2",
                                 .defaults = kDefaults,
                                 .rope_theta = 10000,
                                 .tensors = kTensors,
                                 .traits = {.windows = Windows::kLayerTypes},
                                 .settle = DropUnusedWindow};

}  // namespace

const Architecture& qwen2() { return kQwen2; }

}  // namespace sluice::checkpoint::architectures
