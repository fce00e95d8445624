// Cohere 2: Command R7B and A. Cohere without norms of q and k, three sliding layers to a full one. Sizes are those of
// transformers' Cohere2Config.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

// The key that older files have in place of layer_types.
nlohmann::ordered_json EveryFourthIsFull(const nlohmann::ordered_json& config) {
  const auto pattern = config.find("sliding_window_pattern");
  return FullEvery(config, pattern == config.end() ? 4 : WholeNumber(*pattern).value_or(0));
}

constexpr ConfigDefault kDefaults[] = {
    {"attention_bias", "false"},     {"hidden_size", "8192"},
    {"intermediate_size", "22528"},  {"max_position_embeddings", "8192"},
    {"num_attention_heads", "64"},   {"num_hidden_layers", "40"},
    {"sliding_window", "4096"},      {"tie_word_embeddings", "true"},
    {"vocab_size", "256000"},        {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads}, {"layer_types", "", EveryFourthIsFull},
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
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kCohere2 = {.name = "Cohere2ForCausalLM",
                                   .model_type = "cohere2",
                                   .defaults = kDefaults,
                                   .traits = {.windows = Windows::kLayerTypes},
                                   .outline = {.tensors = kTensors,
                                               .lacks = "layer norms, attention beside the MLP, rotary embedding of "
                                                        "neighbouring elements, layers without it, and scaled logits"}};

}  // namespace

const Architecture& cohere2() { return kCohere2; }

}  // namespace sluice::checkpoint::architectures
