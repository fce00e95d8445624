// Llama 1 to 3, and what was published in its clothes: Yi after its first releases, SmolLM2, Vicuna, ... Defaults are
// those of transformers' LlamaConfig.
#include <array>

#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr std::array<ConfigDefault, 16> kDefaults = {{
    {"attention_bias", "false"},
    {"bos_token_id", "1"},
    {"eos_token_id", "2"},
    {"hidden_act", "\"silu\""},
    {"hidden_size", "4096"},
    {"intermediate_size", "11008"},
    {"max_position_embeddings", "2048"},
    {"mlp_bias", "false"},
    {"model_type", "\"llama\""},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"rms_norm_eps", "1e-06"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "32000"},
    {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
}};

constexpr std::array<TensorRule, 19> kTensors = {{
    {Step::kEmbedding, "model.embed_tokens.weight", Dim::kVocab, Dim::kHidden},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.weight", Dim::kQuery, Dim::kHidden},
    {Step::kKey, "model.layers.*.self_attn.k_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kValue, "model.layers.*.self_attn.v_proj.weight", Dim::kKeyValue, Dim::kHidden},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.weight", Dim::kHidden, Dim::kQuery},
    {Step::kQuery, "model.layers.*.self_attn.q_proj.bias", Dim::kQuery, Dim::kNone, When::kAttentionBias},
    {Step::kKey, "model.layers.*.self_attn.k_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
    {Step::kValue, "model.layers.*.self_attn.v_proj.bias", Dim::kKeyValue, Dim::kNone, When::kAttentionBias},
    {Step::kAttentionOutput, "model.layers.*.self_attn.o_proj.bias", Dim::kHidden, Dim::kNone, When::kAttentionBias},
    {Step::kGate, "model.layers.*.mlp.gate_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kUp, "model.layers.*.mlp.up_proj.weight", Dim::kFfn, Dim::kHidden},
    {Step::kDown, "model.layers.*.mlp.down_proj.weight", Dim::kHidden, Dim::kFfn},
    {Step::kGate, "model.layers.*.mlp.gate_proj.bias", Dim::kFfn, Dim::kNone, When::kMlpBias},
    {Step::kUp, "model.layers.*.mlp.up_proj.bias", Dim::kFfn, Dim::kNone, When::kMlpBias},
    {Step::kDown, "model.layers.*.mlp.down_proj.bias", Dim::kHidden, Dim::kNone, When::kMlpBias},
    {Step::kInputNorm, "model.layers.*.input_layernorm.weight", Dim::kHidden},
    {Step::kMlpNorm, "model.layers.*.post_attention_layernorm.weight", Dim::kHidden},
    {Step::kFinalNorm, "model.norm.weight", Dim::kHidden},
    {Step::kHead, "lm_head.weight", Dim::kVocab, Dim::kHidden, When::kUntied},
}};

constexpr Architecture kLlama = {
    .name = "LlamaForCausalLM", .model_type = "llama", .defaults = kDefaults, .rope_theta = 10000, .tensors = kTensors};

}  // namespace

const Architecture& llama() { return kLlama; }

}  // namespace sluice::checkpoint::architectures
