// EXAONE 4: norms after attention and MLP and over each head of q and k, sliding layers. Sizes are those of
// transformers' Exaone4Config.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

nlohmann::ordered_json ByPattern(const nlohmann::ordered_json& config) {
  return FullEvery(config, WholeNumber(config.at("sliding_window_pattern")).value_or(0));
}

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "4096"},       {"intermediate_size", "16384"},  {"max_position_embeddings", "2048"},
    {"num_attention_heads", "32"}, {"num_hidden_layers", "32"},     {"num_key_value_heads", "32"},
    {"sliding_window", "4096"},    {"sliding_window_pattern", "4"}, {"tie_word_embeddings", "false"},
    {"vocab_size", "102400"},      {"head_dim", "", HiddenByHeads}, {"layer_types", "", ByPattern},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "model.embed_tokens.weight", "vocab_size, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "model.layers.*.self_attn.o_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kNorms, "model.layers.*.self_attn.q_norm.weight", "head_dim"},
    {Part::kNorms, "model.layers.*.self_attn.k_norm.weight", "head_dim"},
    {Part::kNorms, "model.layers.*.post_attention_layernorm.weight", "hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.gate_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.up_proj.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "model.layers.*.mlp.down_proj.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "model.layers.*.post_feedforward_layernorm.weight", "hidden_size"},
    {Part::kNorms, "model.norm.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kExaone4 = {
    .name = "Exaone4ForCausalLM",
    .model_type = "exaone4",
    .defaults = kDefaults,
    .traits = {.windows = Windows::kLayerTypes},
    .outline = {.tensors = kTensors,
                .lacks = "norms after attention and MLP alone, and layers without rotary embedding"}};

}  // namespace

const Architecture& exaone4() { return kExaone4; }

}  // namespace sluice::checkpoint::architectures
