// Cohere: Command R. Attention and MLP share one norm. Sizes are those of transformers' CohereConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "false"},     {"hidden_size", "8192"},
    {"intermediate_size", "22528"},  {"max_position_embeddings", "8192"},
    {"num_attention_heads", "64"},   {"num_hidden_layers", "40"},
    {"tie_word_embeddings", "true"}, {"use_qk_norm", "false"},
    {"vocab_size", "256000"},        {"num_key_value_heads", "", AsManyAsHeads},
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
    {Part::kNorms, "model.layers.*.self_attn.q_norm.weight", "num_attention_heads, head_dim", "use_qk_norm"},
    {Part::kNorms, "model.layers.*.self_attn.k_norm.weight", "num_key_value_heads, head_dim", "use_qk_norm"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kCohere = {
    .name = "CohereForCausalLM",
    .model_type = "cohere",
    .defaults = kDefaults,
    .outline = {
        .tensors = kTensors,
        .lacks = "layer norms, attention beside the MLP, rotary embedding of neighbouring elements and scaled logits"}};

}  // namespace

const Architecture& cohere() { return kCohere; }

}  // namespace sluice::checkpoint::architectures
