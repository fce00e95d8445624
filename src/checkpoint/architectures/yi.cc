// Yi as it was first released, with code of its own: Llama, but for the names of two norms. Later releases are Llama by
// name too. Defaults are those of 01-ai's YiConfig.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json FourOrAsManyAsHeads(const nlohmann::ordered_json& config) {
  return AsManyAsHeadsWhereNull(config, 4);
}

constexpr std::array<ConfigDefault, 15> kDefaults = {{
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
    {"hidden_act", "\"silu\""},
    {"hidden_size", "4096"},
    {"intermediate_size", "11008"},
    {"max_position_embeddings", "4096"},
    {"model_type", "\"Yi\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"pad_token_id", "0"},
    {"rms_norm_eps", "1e-05"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "64000"},
    {"num_key_value_heads", "", FourOrAsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
}};

constexpr std::array<TensorRule, 12> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kInputNorm, "model.layers.*.ln1.weight", Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kMlpNorm, "model.layers.*.ln2.weight", Dim::kHidden},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kYi = {.name = "YiForCausalLM",
                              .model_type = "Yi",
                              .renames_to = "llama",
                              .defaults = kDefaults,
                              .rope_theta = 5000000,
                              .tensors = kTensors};

}  // namespace

const Architecture& yi() { return kYi; }

}  // namespace sluice::checkpoint::architectures
