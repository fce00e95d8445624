// DistilBERT: BERT without token types and pooler. Sizes are those of transformers' DistilBertConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"dim", "768"},
    {"hidden_dim", "3072"},
    {"max_position_embeddings", "512"},
    {"n_heads", "12"},
    {"n_layers", "6"},
    {"tie_word_embeddings", "true"},
    {"vocab_size", "30522"},
    {"hidden_size", "", SameAs<"dim">},
    {"intermediate_size", "", SameAs<"hidden_dim">},
    {"num_attention_heads", "", SameAs<"n_heads">},
    {"num_hidden_layers", "", SameAs<"n_layers">},
    {"num_labels", "", NumLabels},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "^embeddings.word_embeddings.weight", "vocab_size, dim"},
    {Part::kEmbedding, "^embeddings.position_embeddings.weight", "max_position_embeddings, dim"},
    {Part::kNorms, "^embeddings.LayerNorm.weight", "dim"},
    {Part::kNorms, "^embeddings.LayerNorm.bias", "dim"},
    {Part::kAttention, "^transformer.layer.*.attention.q_lin.weight", "dim, dim"},
    {Part::kAttention, "^transformer.layer.*.attention.q_lin.bias", "dim"},
    {Part::kAttention, "^transformer.layer.*.attention.k_lin.weight", "dim, dim"},
    {Part::kAttention, "^transformer.layer.*.attention.k_lin.bias", "dim"},
    {Part::kAttention, "^transformer.layer.*.attention.v_lin.weight", "dim, dim"},
    {Part::kAttention, "^transformer.layer.*.attention.v_lin.bias", "dim"},
    {Part::kAttention, "^transformer.layer.*.attention.out_lin.weight", "dim, dim"},
    {Part::kAttention, "^transformer.layer.*.attention.out_lin.bias", "dim"},
    {Part::kNorms, "^transformer.layer.*.sa_layer_norm.weight", "dim"},
    {Part::kNorms, "^transformer.layer.*.sa_layer_norm.bias", "dim"},
    {Part::kMlp, "^transformer.layer.*.ffn.lin1.weight", "hidden_dim, dim"},
    {Part::kMlp, "^transformer.layer.*.ffn.lin1.bias", "hidden_dim"},
    {Part::kMlp, "^transformer.layer.*.ffn.lin2.weight", "dim, hidden_dim"},
    {Part::kMlp, "^transformer.layer.*.ffn.lin2.bias", "dim"},
    {Part::kNorms, "^transformer.layer.*.output_layer_norm.weight", "dim"},
    {Part::kNorms, "^transformer.layer.*.output_layer_norm.bias", "dim"},
};

constexpr PartRule kMasked[] = {
    {Part::kHead, "vocab_transform.weight", "dim, dim"},
    {Part::kHead, "vocab_transform.bias", "dim"},
    {Part::kNorms, "vocab_layer_norm.weight", "dim"},
    {Part::kNorms, "vocab_layer_norm.bias", "dim"},
    {Part::kHead, "vocab_projector.weight", "vocab_size, dim", "!tie_word_embeddings"},
    {Part::kHead, "vocab_projector.bias", "vocab_size"},
};
constexpr PartRule kSequences[] = {
    {Part::kHead, "pre_classifier.weight", "dim, dim"},
    {Part::kHead, "pre_classifier.bias", "dim"},
    {Part::kHead, "classifier.weight", "num_labels, dim"},
    {Part::kHead, "classifier.bias", "num_labels"},
};
constexpr PartRule kTokens[] = {
    {Part::kHead, "classifier.weight", "num_labels, dim"},
    {Part::kHead, "classifier.bias", "num_labels"},
};
constexpr PartRule kAnswers[] = {
    {Part::kHead, "qa_outputs.weight", "num_labels, dim"},
    {Part::kHead, "qa_outputs.bias", "num_labels"},
};
constexpr ModelClass kClasses[] = {
    {"DistilBertForMaskedLM", "distilbert.", kMasked},
    {"DistilBertModel", "", {}},
    {"DistilBertForSequenceClassification", "distilbert.", kSequences},
    {"DistilBertForTokenClassification", "distilbert.", kTokens},
    {"DistilBertForQuestionAnswering", "distilbert.", kAnswers},
};

constexpr Architecture kDistilbert = {
    .name = "DistilBertForMaskedLM",
    .model_type = "distilbert",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors, .lacks = "attention to later tokens", .classes = kClasses, .caches_keys = false}};

}  // namespace

const Architecture& distilbert() { return kDistilbert; }

}  // namespace sluice::checkpoint::architectures
