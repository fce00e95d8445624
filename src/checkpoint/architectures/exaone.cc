// EXAONE 3 and 3.5: Llama under other names. Not in transformers: sizes are those of the ExaoneConfig that comes with
// its models.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "2048"},
    {"max_position_embeddings", "2048"},
    {"num_attention_heads", "32"},
    {"num_layers", "32"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "102400"},
    {"num_key_value_heads", "", AsManyAsHeads},
    {"head_dim", "", HiddenByHeads},
    {"intermediate_size", "", FourTimes<"hidden_size">},
    {"num_hidden_layers", "", SameAs<"num_layers">},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "transformer.wte.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "transformer.h.*.ln_1.weight", "hidden_size"},
    {Part::kAttention, "transformer.h.*.attn.attention.q_proj.weight", "num_attention_heads*head_dim, hidden_size"},
    {Part::kAttention, "transformer.h.*.attn.attention.k_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "transformer.h.*.attn.attention.v_proj.weight", "num_key_value_heads*head_dim, hidden_size"},
    {Part::kAttention, "transformer.h.*.attn.attention.out_proj.weight", "hidden_size, num_attention_heads*head_dim"},
    {Part::kNorms, "transformer.h.*.ln_2.weight", "hidden_size"},
    {Part::kMlp, "transformer.h.*.mlp.c_fc_0.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "transformer.h.*.mlp.c_fc_1.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "transformer.h.*.mlp.c_proj.weight", "hidden_size, intermediate_size"},
    {Part::kNorms, "transformer.ln_f.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

constexpr Architecture kExaone = {.name = "ExaoneForCausalLM",
                                  .model_type = "exaone",
                                  .defaults = kDefaults,
                                  .outline = {.tensors = kTensors, .lacks = "logits of its own code to be held to"}};

}  // namespace

const Architecture& exaone() { return kExaone; }

}  // namespace sluice::checkpoint::architectures
