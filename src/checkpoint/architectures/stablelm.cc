// StableLM 2 and 3B: Llama with layer norms, which have biases but over the heads of q and k. Sizes are those of
// transformers' StableLmConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "2560"},       {"intermediate_size", "6912"},    {"max_position_embeddings", "4096"},
    {"num_attention_heads", "32"}, {"num_hidden_layers", "32"},      {"num_key_value_heads", "32"},
    {"qk_layernorm", "false"},     {"tie_word_embeddings", "false"}, {"use_parallel_residual", "false"},
    {"use_qkv_bias", "false"},     {"vocab_size", "50304"},          {"head_dim", "", HiddenByHeads},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.embed_tokens.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.weight", "hidden_size"},
    {Part::kNorms, "model.layers.*.input_layernorm.bias", "hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.bias", "num_attention_heads*head_dim", "use_qkv_bias"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.bias", "num_key_value_heads*head_dim", "use_qkv_bias"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.bias", "num_key_value_heads*head_dim", "use_qkv_bias"},
    {Part::kNorms, "model.layers.*.self_attn.q_layernorm.norms.{num_attention_heads}.weight", "head_dim",
     "qk_layernorm"},
    {Part::kNorms, "model.layers.*.self_attn.k_layernorm.norms.{num_key_value_heads}.weight", "head_dim",
     "qk_layernorm"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size", "!use_parallel_residual"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.bias", "hidden_size", "!use_parallel_residual"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kNorms, "model.norm.bias", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kStablelm = {.name = "StableLmForCausalLM",
                                    .model_type = "stablelm",
                                    .defaults = kDefaults,
                                    .outline = {.tensors = kTensors, .lacks = "layer norms with biases"}};

}  // namespace

const Architecture& stablelm() { return kStablelm; }

}  // namespace sluice::checkpoint::architectures
