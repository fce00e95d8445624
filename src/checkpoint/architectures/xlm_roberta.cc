// XLM-RoBERTa: RoBERTa with a vocabulary of many languages. Sizes are those of transformers' XLMRobertaConfig.
#include "checkpoint/architecture.h"
#include "checkpoint/architectures/internal_bert_tensors.h"
#include "checkpoint/architectures/internal_derived_keys.h"

namespace sluice::checkpoint::architectures {
namespace {

constexpr ConfigDefault kDefaults[] = {
    {"hidden_size", "768"},        {"intermediate_size", "3072"}, {"max_position_embeddings", "512"},
    {"num_attention_heads", "12"}, {"num_hidden_layers", "12"},   {"tie_word_embeddings", "true"},
    {"type_vocab_size", "2"},      {"vocab_size", "30522"},       {"num_labels", "", NumLabels},
};

constexpr ModelClass kClasses[] = {
    {"XLMRobertaForMaskedLM", "roberta.", kRobertaMasked},
    {"XLMRobertaModel", "", kBertPooled},
    {"XLMRobertaForSequenceClassification", "roberta.", kRobertaSequences},
    {"XLMRobertaForTokenClassification", "roberta.", kBertTokenClasses},
    {"XLMRobertaForQuestionAnswering", "roberta.", kBertAnswers},
};

constexpr Architecture kXlmRoberta = {.name = "XLMRobertaForMaskedLM",
                                      .model_type = "xlm-roberta",
                                      .defaults = kDefaults,
                                      .outline = {.tensors = kBertTensors,
                                                  .lacks = "attention to later tokens",
                                                  .classes = kClasses,
                                                  .buffers = kBertBuffers,
                                                  .old_endings = kBertOldEndings,
                                                  .caches_keys = false}};

}  // namespace

const Architecture& xlm_roberta() { return kXlmRoberta; }

}  // namespace sluice::checkpoint::architectures
