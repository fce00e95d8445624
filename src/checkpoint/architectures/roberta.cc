// RoBERTa: BERT's tensors under another prefix and other heads. Sizes are those of transformers' RobertaConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_bert_tensors.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "768"},        {"intermediate_size", "3072"}, {"max_position_embeddings", "512"},
    {"num_attention_heads", "12"}, {"num_hidden_layers", "12"},   {"tie_word_embeddings", "true"},
    {"type_vocab_size", "2"},      {"vocab_size", "50265"},       {"num_labels", "", NumLabels},
};

constexpr PartRule kPooled[] = {
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size"},
};
constexpr PartRule kMasked[] = {
    {Part::kHead, "lm_head.bias", "vocab_size"},
    {Part::kHead, "lm_head.dense.weight", "hidden_size, hidden_size"},
    {Part::kHead, "lm_head.dense.bias", "hidden_size"},
    {Part::kNorms, "lm_head.layer_norm.weight", "hidden_size"},
    {Part::kNorms, "lm_head.layer_norm.bias", "hidden_size"},
    {Part::kHead, "lm_head.decoder.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
    {Part::kHead, "lm_head.decoder.bias", "vocab_size", "?"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
constexpr PartRule kSequences[] = {
    {Part::kHead, "classifier.dense.weight", "hidden_size, hidden_size"},
    {Part::kHead, "classifier.dense.bias", "hidden_size"},
    {Part::kHead, "classifier.out_proj.weight", "num_labels, hidden_size"},
    {Part::kHead, "classifier.out_proj.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
constexpr PartRule kTokens[] = {
    {Part::kHead, "classifier.weight", "num_labels, hidden_size"},
    {Part::kHead, "classifier.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
constexpr PartRule kAnswers[] = {
    {Part::kHead, "qa_outputs.weight", "num_labels, hidden_size"},
    {Part::kHead, "qa_outputs.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
constexpr ModelClass kClasses[] = {
    {"RobertaForMaskedLM", "roberta.", kMasked},
    {"RobertaModel", "", kPooled},
    {"RobertaForSequenceClassification", "roberta.", kSequences},
    {"RobertaForTokenClassification", "roberta.", kTokens},
    {"RobertaForQuestionAnswering", "roberta.", kAnswers},
};

constexpr Architecture kRoberta = {.name = "RobertaForMaskedLM",
                                   .model_type = "roberta",
                                   .defaults = kDefaults,
                                   .outline = {.tensors = kBertTensors,
                                               .lacks = "attention to later tokens",
                                               .classes = kClasses,
                                               .buffers = kBertBuffers,
                                               .old_endings = kBertOldEndings,
                                               .caches_keys = false}};

}  // namespace

const Architecture& roberta() { return kRoberta; }

}  // namespace sluice::checkpoint::architectures
