// Granite 3: Llama's tensors. Sizes are those of transformers' GraniteConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "false"},     {"hidden_size", "4096"},
    {"intermediate_size", "11008"},  {"max_position_embeddings", "2048"},
    {"mlp_bias", "false"},           {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},     {"tie_word_embeddings", "false"},
    {"vocab_size", "32000"},         {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
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
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.bias", "intermediate_size", "mlp_bias"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.bias", "intermediate_size", "mlp_bias"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.bias", "hidden_size", "mlp_bias"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kGranite = {
    .name = "GraniteForCausalLM",
    .model_type = "granite",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors, .lacks = "multipliers of embeddings, scores, residuals and logits"}};

}  // namespace

const Architecture& granite() { return kGranite; }

}  // namespace sluice::checkpoint::architectures
