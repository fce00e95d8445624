// GPT-2: learned positions, layer norms with biases, and weights stored as [in, out] (transformers' Conv1D). Sizes are
// those of transformers' GPT2Config. The files that OpenAI's models were published in have no prefix, and the causal
// mask of each layer beside the weights.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"n_embd", "768"},
    {"n_head", "12"},
    {"n_layer", "12"},
    {"n_positions", "1024"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "50257"},
    {"hidden_size", "", SameAs<"n_embd">},
    {"num_attention_heads", "", SameAs<"n_head">},
    {"num_hidden_layers", "", SameAs<"n_layer">},
    {"max_position_embeddings", "", SameAs<"n_positions">},
    {"n_inner", "", FourTimes<"n_embd">},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "^wte.weight", "vocab_size, n_embd"},
    {Part::kEmbedding, "^wpe.weight", "n_positions, n_embd"},
    {Part::kNorms, "^h.*.ln_1.weight", "n_embd"},
    {Part::kNorms, "^h.*.ln_1.bias", "n_embd"},
    {Part::kAttention, "^h.*.attn.c_attn.weight", "n_embd, 3*n_embd"},
    {Part::kAttention, "^h.*.attn.c_attn.bias", "3*n_embd"},
    {Part::kAttention, "^h.*.attn.c_proj.weight", "n_embd, n_embd"},
    {Part::kAttention, "^h.*.attn.c_proj.bias", "n_embd"},
    {Part::kNorms, "^h.*.ln_2.weight", "n_embd"},
    {Part::kNorms, "^h.*.ln_2.bias", "n_embd"},
    {Part::kMlp, "^h.*.mlp.c_fc.weight", "n_embd, n_inner"},
    {Part::kMlp, "^h.*.mlp.c_fc.bias", "n_inner"},
    {Part::kMlp, "^h.*.mlp.c_proj.weight", "n_inner, n_embd"},
    {Part::kMlp, "^h.*.mlp.c_proj.bias", "n_embd"},
    {Part::kNorms, "^ln_f.weight", "n_embd"},
    {Part::kNorms, "^ln_f.bias", "n_embd"},
};

constexpr PartRule kHead[] = {{Part::kHead, "lm_head.weight", "vocab_size, n_embd", "!tie_word_embeddings"}};
constexpr ModelClass kClasses[] = {{"GPT2LMHeadModel", "transformer.", kHead}, {"GPT2Model", "", {}}};
constexpr std::string_view kBuffers[] = {".attn.bias", ".attn.masked_bias"};

constexpr Architecture kGpt2 = {
    .name = "GPT2LMHeadModel",
    .model_type = "gpt2",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors,
                .lacks = "layer norms with biases, learned positions and weights stored as [in, out]",
                .classes = kClasses,
                .buffers = kBuffers}};

}  // namespace

const Architecture& gpt2() { return kGpt2; }

}  // namespace sluice::checkpoint::architectures
