// Qwen 1.5 and 2 with experts: Qwen 2 with a router, its experts and one that all tokens share. Sizes are those of
// transformers' Qwen2MoeConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"decoder_sparse_step", "1"},
    {"hidden_size", "2048"},
    {"intermediate_size", "5632"},
    {"max_position_embeddings", "32768"},
    {"mlp_only_layers", "null"},
    {"moe_intermediate_size", "1408"},
    {"num_attention_heads", "16"},
    {"num_experts", "60"},
    {"num_experts_per_tok", "4"},
    {"num_hidden_layers", "24"},
    {"num_key_value_heads", "16"},
    {"qkv_bias", "true"},
    {"shared_expert_intermediate_size", "5632"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "151936"},
    {"head_dim", "", HiddenByHeads},
    {"mlp_layer_types", "", SparseAndDense},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.embed_tokens.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.weight", "hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.bias", "num_attention_heads*head_dim", "qkv_bias"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.bias", "num_key_value_heads*head_dim", "qkv_bias"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.bias", "num_key_value_heads*head_dim", "qkv_bias"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kExperts, "model.layers.*.mlp.gate.weight", "num_experts, hidden_size", "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.gate_proj.weight", "moe_intermediate_size, hidden_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.up_proj.weight", "moe_intermediate_size, hidden_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.down_proj.weight", "hidden_size, moe_intermediate_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.shared_expert.gate_proj.weight",
     "shared_expert_intermediate_size, hidden_size", "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.shared_expert.up_proj.weight", "shared_expert_intermediate_size, hidden_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.shared_expert.down_proj.weight",
     "hidden_size, shared_expert_intermediate_size", "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.shared_expert_gate.weight", "1, hidden_size", "mlp_layer_types=sparse"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size", "mlp_layer_types=dense"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size", "mlp_layer_types=dense"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size", "mlp_layer_types=dense"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kQwen2Moe = {
    .name = "Qwen2MoeForCausalLM",
    .model_type = "qwen2_moe",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors, .lacks = "a router, its experts and a shared expert behind a gate"}};

}  // namespace

const Architecture& qwen2_moe() { return kQwen2Moe; }

}  // namespace sluice::checkpoint::architectures
