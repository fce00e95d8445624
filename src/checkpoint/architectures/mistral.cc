// Mistral 7B, Nemo and Small: Llama with a window. A config without sliding_window has one of 4096 positions, one with
// null has none. Defaults are those of transformers' MistralConfig.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json EightOrAsManyAsHeads(const nlohmann::ordered_json& config) {
  return AsManyAsHeadsWhereNull(config, 8);
}

constexpr std::array<ConfigDefault, 15> kDefaults = {{
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
    {"hidden_act", "\"silu\""},
    {"hidden_size", "4096"},
    {"intermediate_size", "14336"},
    {"max_position_embeddings", "131072"},
    {"model_type", "\"mistral\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"rms_norm_eps", "1e-06"},
    {"sliding_window", "4096"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "32000"},
    {"num_key_value_heads", "", EightOrAsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
}};

constexpr std::array<TensorRule, 12> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kMlpNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kMistral = {.name = "MistralForCausalLM",
                                   .model_type = "mistral",
                                   .defaults = kDefaults,
                                   .rope_theta = 10000,
                                   .tensors = kTensors,
                                   .traits = {.windows = Windows::kEvery}};

}  // namespace

const Architecture& mistral() { return kMistral; }

}  // namespace sluice::checkpoint::architectures
