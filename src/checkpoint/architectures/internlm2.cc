// InternLM 2 and 2.5: Llama with q, k and v in one tensor, group by group. Not in transformers: sizes are those of the
// InternLM2Config that comes with its models.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"bias", "true"},
    {"hidden_size", "4096"},
    {"intermediate_size", "11008"},
    {"max_position_embeddings", "2048"},
    {"num_attention_heads", "32"},
    {"num_hidden_layers", "32"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "103168"},
    {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.tok_embeddings.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "model.layers.*.attention_norm.weight", "hidden_size"},
    {Part::kAttention, "model.layers.*.attention.wqkv.weight",
     "num_attention_heads*head_dim + 2*num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.attention.wqkv.bias",
     "num_attention_heads*head_dim + 2*num_key_value_heads*head_dim", "bias"},
    {Part::kAttention, "model.layers.*.attention.wo.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kAttention, "model.layers.*.attention.wo.bias", "hidden_size", "bias"},
    {Part::kNorms, "model.layers.*.ffn_norm.weight", "hidden_size"},
    {Part::kMlp, "model.layers.*.feed_forward.w1.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.feed_forward.w3.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.feed_forward.w2.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "output.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kInternlm2 = {
    .name = "InternLM2ForCausalLM",
    .model_type = "internlm2",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors, .lacks = "q, k and v in one tensor group by group"}};

}  // namespace

const Architecture& internlm2() { return kInternlm2; }

}  // namespace sluice::checkpoint::architectures
