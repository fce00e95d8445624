// Gemma 1: Llama's tensors. Sizes are those of transformers' GemmaConfig.
#include "checkpoint/architecture.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "false"},
    {"head_dim", "256"},
    {"hidden_size", "3072"},
    {"intermediate_size", "24576"},
    {"max_position_embeddings", "8192"},
    {"num_attention_heads", "16"},
    {"num_hidden_layers", "28"},
    {"num_key_value_heads", "16"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "256000"},
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
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kGemma = {.name = "GemmaForCausalLM",
                                 .model_type = "gemma",
                                 .defaults = kDefaults,
                                 .outline = {.tensors = kTensors, .lacks = "logits of transformers to be held to"}};

}  // namespace

const Architecture& gemma() { return kGemma; }

}  // namespace sluice::checkpoint::architectures
