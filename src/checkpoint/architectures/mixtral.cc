// Mixtral: Mistral with a router and experts in place of the MLP. Sizes are those of transformers' MixtralConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json EightOrAsManyAsHeads(const nlohmann::ordered_json& config) {
  return AsManyAsHeadsWhereNull(config, 8);
}

constexpr ConfigDefault kDefaults[] = {
    {"head_dim", "", HiddenByHeads},  {"hidden_size", "4096"},
    {"intermediate_size", "14336"},   {"max_position_embeddings", "131072"},
    {"num_attention_heads", "32"},    {"num_experts_per_tok", "2"},
    {"num_hidden_layers", "32"},      {"num_key_value_heads", "", EightOrAsManyAsHeads},
    {"num_local_experts", "8"},       {"sliding_window", "null"},
    {"tie_word_embeddings", "false"}, {"vocab_size", "32000"},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.embed_tokens.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.weight", "hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kExperts, "model.layers.*.block_sparse_moe.gate.weight", "num_local_experts, hidden_size"},
    {Part::kExperts, "model.layers.*.block_sparse_moe.experts.{num_local_experts}.w1.weight",
     "intermediate_size, hidden_size"},
    {Part::kExperts, "model.layers.*.block_sparse_moe.experts.{num_local_experts}.w2.weight",
     "hidden_size, intermediate_size"},
    {Part::kExperts, "model.layers.*.block_sparse_moe.experts.{num_local_experts}.w3.weight",
     "intermediate_size, hidden_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kMixtral = {.name = "MixtralForCausalLM",
                                   .model_type = "mixtral",
                                   .defaults = kDefaults,
                                   .traits = {.windows = Windows::kEvery},
                                   .outline = {.tensors = kTensors, .lacks = "a router and its experts"}};

}  // namespace

const Architecture& mixtral() { return kMixtral; }

}  // namespace sluice::checkpoint::architectures
