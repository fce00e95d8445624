// Qwen 3 with experts: Qwen 3 with a router and experts in place of the MLP. Sizes are those of transformers'
// Qwen3MoeConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "false"},
    {"decoder_sparse_step", "1"},
    {"hidden_size", "2048"},
    {"intermediate_size", "6144"},
    {"max_position_embeddings", "32768"},
    {"mlp_only_layers", "null"},
    {"moe_intermediate_size", "768"},
    {"num_attention_heads", "32"},
    {"num_experts", "128"},
    {"num_experts_per_tok", "8"},
    {"num_hidden_layers", "24"},
    {"num_key_value_heads", "4"},
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
    {Part::kAttention, "model.layers.*.self_attn.q_proj.bias", "num_attention_heads*head_dim", "attention_bias"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.bias", "num_key_value_heads*head_dim", "attention_bias"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.bias", "num_key_value_heads*head_dim", "attention_bias"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.bias", "hidden_size", "attention_bias"},
    {Part::kNorms, "model.layers.*.self_attn.q_norm.weight", "head_dim"},
    {Part::kNorms, "model.layers.*.self_attn.k_norm.weight", "head_dim"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kExperts, "model.layers.*.mlp.gate.weight", "num_experts, hidden_size", "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.gate_proj.weight", "moe_intermediate_size, hidden_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.up_proj.weight", "moe_intermediate_size, hidden_size",
     "mlp_layer_types=sparse"},
    {Part::kExperts, "model.layers.*.mlp.experts.{num_experts}.down_proj.weight", "hidden_size, moe_intermediate_size",
     "mlp_layer_types=sparse"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size", "mlp_layer_types=dense"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size", "mlp_layer_types=dense"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size", "mlp_layer_types=dense"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kQwen3Moe = {.name = "Qwen3MoeForCausalLM",
                                    .model_type = "qwen3_moe",
                                    .defaults = kDefaults,
                                    .outline = {.tensors = kTensors, .lacks = "a router and its experts"}};

}  // namespace

const Architecture& qwen3_moe() { return kQwen3Moe; }

}  // namespace sluice::checkpoint::architectures
