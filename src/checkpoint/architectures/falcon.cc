// Falcon: 7B (one key/value head), 40B and 11B (groups of heads, new_decoder_architecture), RW-1B (a head each). q, k
// and v are one tensor, group by group. Sizes are those of transformers' FalconConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

using nlohmann::ordered_json;

bool IsTrue(const ordered_json& value) { return value.is_boolean() && value.get<bool>(); }

ordered_json KeyValueHeads(const ordered_json& config) {
  const ordered_json& given = config.at("num_kv_heads");
  if (IsTrue(config.at("new_decoder_architecture"))) return given.is_null() ? config.at("num_attention_heads") : given;
  return IsTrue(config.at("multi_query")) ? ordered_json(1) : config.at("num_attention_heads");
}

// One of attention's input and one of the MLP's, beside one another.
ordered_json HasTwoNorms(const ordered_json& config) {
  const ordered_json& norms = config.at("num_ln_in_parallel_attn");
  return IsTrue(config.at("parallel_attn")) &&
         (norms.is_null() ? IsTrue(config.at("new_decoder_architecture")) : norms == ordered_json(2));
}

constexpr ConfigDefault kDefaults[] = {
    {"bias", "false"},
    {"hidden_size", "4544"},
    {"max_position_embeddings", "2048"},
    {"multi_query", "true"},
    {"new_decoder_architecture", "false"},
    {"num_attention_heads", "71"},
    {"num_hidden_layers", "32"},
    {"num_ln_in_parallel_attn", "null"},
    {"num_kv_heads", "null"},
    {"parallel_attn", "true"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "65024"},
    {"head_dim", "", HiddenByHeads},
    {"ffn_hidden_size", "", FourTimes<"hidden_size">},
    {"num_key_value_heads", "", KeyValueHeads},
    {"two_norms", "", HasTwoNorms},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "transformer.word_embeddings.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "transformer.h.*.input_layernorm.weight", "hidden_size", "!two_norms"},
    {Part::kNorms, "transformer.h.*.input_layernorm.bias", "hidden_size", "!two_norms"},
    {Part::kNorms, "transformer.h.*.ln_attn.weight", "hidden_size", "two_norms"},
    {Part::kNorms, "transformer.h.*.ln_attn.bias", "hidden_size", "two_norms"},
    {Part::kNorms, "transformer.h.*.ln_mlp.weight", "hidden_size", "two_norms"},
    {Part::kNorms, "transformer.h.*.ln_mlp.bias", "hidden_size", "two_norms"},
    {Part::kAttention, "transformer.h.*.self_attention.query_key_value.weight",
     "num_attention_heads*head_dim + 2*num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "transformer.h.*.self_attention.query_key_value.bias",
     "num_attention_heads*head_dim + 2*num_key_value_heads*head_dim", "bias"},
    {Part::kAttention, "transformer.h.*.self_attention.dense.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kAttention, "transformer.h.*.self_attention.dense.bias", "hidden_size", "bias"},
    {Part::kNorms, "transformer.h.*.post_attention_layernorm.weight", "hidden_size", "!parallel_attn"},
    {Part::kNorms, "transformer.h.*.post_attention_layernorm.bias", "hidden_size", "!parallel_attn"},
    {Part::kMlp, "transformer.h.*.mlp.dense_h_to_4h.weight", "ffn_hidden_size, hidden_size"},
    {Part::kMlp, "transformer.h.*.mlp.dense_h_to_4h.bias", "ffn_hidden_size", "bias"},
    {Part::kMlp, "transformer.h.*.mlp.dense_4h_to_h.weight", "hidden_size, ffn_hidden_size"},
    {Part::kMlp, "transformer.h.*.mlp.dense_4h_to_h.bias", "hidden_size", "bias"},
    {Part::kNorms, "transformer.ln_f.weight", "hidden_size"},
    {Part::kNorms, "transformer.ln_f.bias", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kFalcon = {
    .name = "FalconForCausalLM",
    .model_type = "falcon",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors,
                .lacks = "layer norms with biases, attention beside the MLP, and an MLP without a gate"}};

}  // namespace

const Architecture& falcon() { return kFalcon; }

}  // namespace sluice::checkpoint::architectures
