// GPT-NeoX: Pythia and GPT-NeoX-20B. Attention and MLP beside one another, q, k and v in one tensor, head by head.
// Sizes are those of transformers' GPTNeoXConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "true"},          {"hidden_size", "6144"},       {"intermediate_size", "24576"},
    {"max_position_embeddings", "2048"}, {"num_attention_heads", "64"}, {"num_hidden_layers", "44"},
    {"tie_word_embeddings", "false"},    {"vocab_size", "50432"},       {"head_dim", "", HiddenByHeads},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "gpt_neox.embed_in.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "gpt_neox.layers.*.input_layernorm.weight", "hidden_size"},
    {Part::kNorms, "gpt_neox.layers.*.input_layernorm.bias", "hidden_size"},
    {Part::kAttention, "gpt_neox.layers.*.attention.query_key_value.weight", "3*hidden_size, hidden_size"},
    {Part::kAttention, "gpt_neox.layers.*.attention.query_key_value.bias", "3*hidden_size", "attention_bias"},
    {Part::kAttention, "gpt_neox.layers.*.attention.dense.weight", "hidden_size, hidden_size"},
    {Part::kAttention, "gpt_neox.layers.*.attention.dense.bias", "hidden_size", "attention_bias"},
    {Part::kNorms, "gpt_neox.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kNorms, "gpt_neox.layers.*.post_attention_layernorm.bias", "hidden_size"},
    {Part::kMlp, "gpt_neox.layers.*.mlp.dense_h_to_4h.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "gpt_neox.layers.*.mlp.dense_h_to_4h.bias", "intermediate_size"},
    {Part::kMlp, "gpt_neox.layers.*.mlp.dense_4h_to_h.weight", "hidden_size, intermediate_size"},
    {Part::kMlp, "gpt_neox.layers.*.mlp.dense_4h_to_h.bias", "hidden_size"},
    {Part::kNorms, "gpt_neox.final_layer_norm.weight", "hidden_size"},
    {Part::kNorms, "gpt_neox.final_layer_norm.bias", "hidden_size"},
    {Part::kHead, "embed_out.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr std::string_view kBuffers[] = {".attention.bias", ".attention.masked_bias"};

constexpr Architecture kGptNeox = {
    .name = "GPTNeoXForCausalLM",
    .model_type = "gpt_neox",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors,
                .lacks = "layer norms with biases, attention beside the MLP, and an MLP without a gate",
                .buffers = kBuffers}};

}  // namespace

const Architecture& gpt_neox() { return kGptNeox; }

}  // namespace sluice::checkpoint::architectures
