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

constexpr ModelClass kClasses[] = {
    {"RobertaForMaskedLM", "roberta.", kRobertaMasked},
    {"RobertaModel", "", kBertPooled},
    {"RobertaForSequenceClassification", "roberta.", kRobertaSequences},
    {"RobertaForTokenClassification", "roberta.", kBertTokenClasses},
    {"RobertaForQuestionAnswering", "roberta.", kBertAnswers},
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
