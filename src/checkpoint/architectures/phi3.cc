// Phi-3 and Phi-4 (mini, small, medium; dense): Llama with q, k and v in one tensor, gate and up in another, and
// longrope. Defaults are those of transformers' Phi3Config.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

using nlohmann::ordered_json;

// transformers 5 keeps in rope_parameters what 4 kept beside rope_scaling, and calls by one name what had three.
void GatherRope(ordered_json* config) {
  ordered_json rope = config->at("rope_parameters");
  if (!rope.is_object()) return;
  if (const auto partial = config->find("partial_rotary_factor"); partial != config->end()) {
    if (!rope.contains("partial_rotary_factor") && !partial->is_null()) rope["partial_rotary_factor"] = *partial;
    config->erase("partial_rotary_factor");
  }
  if (!rope.contains("partial_rotary_factor")) rope["partial_rotary_factor"] = 1;
  if (rope.contains("rope_type")) {
    ordered_json& type = rope["rope_type"];
    if (type == "su" || type == "yarn") type = "longrope";
    if (type == "longrope") rope["original_max_position_embeddings"] = config->at("original_max_position_embeddings");
  }
  (*config)["rope_parameters"] = std::move(rope);
}

constexpr std::array<ConfigDefault, 17> kDefaults = {{
    {"bos_token_id", "1"},
    {"eos_token_id", "32000"},
    {"hidden_act", "\"silu\""},
    {"hidden_size", "3072"},
    {"intermediate_size", "8192"},
    {"max_position_embeddings", "4096"},
    {"model_type", "\"phi3\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"original_max_position_embeddings", "4096"},
    {"pad_token_id", "32000"},
    {"rms_norm_eps", "1e-05"},
    {"sliding_window", "null"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "32064"},
    {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
}};

constexpr std::array<TensorRule, 9> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kFusedQkv, "model.layers.*.self_attn.qkv_proj.weight", Dim::kFusedQkv, Dim::kHidden},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kMlpNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kFusedGateUp, "model.layers.*.mlp.gate_up_proj.weight", Dim::kFusedGateUp, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kPhi3 = {.name = "Phi3ForCausalLM",
                                .model_type = "phi3",
                                .defaults = kDefaults,
                                .rope_theta = 10000,
                                .tensors = kTensors,
                                .traits = {.windows = Windows::kEvery, .partial_rotary = true},
                                .settle = GatherRope};

}  // namespace

const Architecture& phi3() { return kPhi3; }

}  // namespace sluice::checkpoint::architectures
