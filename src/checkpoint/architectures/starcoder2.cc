// StarCoder 2: layer norms with biases, an MLP without a gate. Sizes are those of transformers' Starcoder2Config.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "3072"},       {"intermediate_size", "12288"},  {"max_position_embeddings", "4096"},
    {"num_attention_heads", "24"}, {"num_hidden_layers", "30"},     {"num_key_value_heads", "2"},
    {"sliding_window", "null"},    {"tie_word_embeddings", "true"}, {"use_bias", "true"},
    {"vocab_size", "49152"},       {"head_dim", "", HiddenByHeads},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.embed_tokens.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.weight", "hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.bias", "hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.bias", "num_attention_heads*head_dim", "use_bias"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.bias", "num_key_value_heads*head_dim", "use_bias"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.bias", "num_key_value_heads*head_dim", "use_bias"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.bias", "hidden_size", "use_bias"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.bias", "hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.c_fc.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.c_fc.bias", "intermediate_size", "use_bias"},
    {Part::kMlp, "model.layers.*.mlp.c_proj.weight", "hidden_size, intermediate_size"},
    {Part::kMlp, "model.layers.*.mlp.c_proj.bias", "hidden_size", "use_bias"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kNorms, "model.norm.bias", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kStarcoder2 = {
    .name = "Starcoder2ForCausalLM",
    .model_type = "starcoder2",
    .defaults = kDefaults,
    .traits = {.windows = Windows::kEvery},
    .outline = {.tensors = kTensors, .lacks = "layer norms with biases, and an MLP without a gate"}};

}  // namespace

const Architecture& starcoder2() { return kStarcoder2; }

}  // namespace sluice::checkpoint::architectures
