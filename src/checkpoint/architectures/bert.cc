// BERT: an encoder; its classes differ in their heads. Sizes are those of transformers' BertConfig.
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

// Published models of this class have the rest of BertForPreTraining too.
constexpr PartRule kMasked[] = {
    {Part::kHead, "cls.predictions.bias", "vocab_size"},
    {Part::kHead, "cls.predictions.transform.dense.weight", "hidden_size, hidden_size"},
    {Part::kHead, "cls.predictions.transform.dense.bias", "hidden_size"},
    {Part::kNorms, "cls.predictions.transform.LayerNorm.weight", "hidden_size"},
    {Part::kNorms, "cls.predictions.transform.LayerNorm.bias", "hidden_size"},
    {Part::kHead, "cls.predictions.decoder.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
    {Part::kHead, "cls.predictions.decoder.bias", "vocab_size", "?"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
    {Part::kHead, "cls.seq_relationship.weight", "2, hidden_size", "?"},
    {Part::kHead, "cls.seq_relationship.bias", "2", "?"},
};
constexpr PartRule kPretraining[] = {
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size"},
    {Part::kHead, "cls.predictions.bias", "vocab_size"},
    {Part::kHead, "cls.predictions.transform.dense.weight", "hidden_size, hidden_size"},
    {Part::kHead, "cls.predictions.transform.dense.bias", "hidden_size"},
    {Part::kNorms, "cls.predictions.transform.LayerNorm.weight", "hidden_size"},
    {Part::kNorms, "cls.predictions.transform.LayerNorm.bias", "hidden_size"},
    {Part::kHead, "cls.predictions.decoder.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
    {Part::kHead, "cls.predictions.decoder.bias", "vocab_size", "?"},
    {Part::kHead, "cls.seq_relationship.weight", "2, hidden_size"},
    {Part::kHead, "cls.seq_relationship.bias", "2"},
};
constexpr PartRule kSequences[] = {
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size"},
    {Part::kHead, "classifier.weight", "num_labels, hidden_size"},
    {Part::kHead, "classifier.bias", "num_labels"},
};
constexpr ModelClass kClasses[] = {
    {"BertForMaskedLM", "bert.", kMasked},
    {"BertModel", "", kBertPooled},
    {"BertForPreTraining", "bert.", kPretraining},
    {"BertForSequenceClassification", "bert.", kSequences},
    {"BertForTokenClassification", "bert.", kBertTokenClasses},
    {"BertForQuestionAnswering", "bert.", kBertAnswers},
};

constexpr Architecture kBert = {.name = "BertForMaskedLM",
                                .model_type = "bert",
                                .defaults = kDefaults,
                                .outline = {.tensors = kBertTensors,
                                            .lacks = "attention to later tokens",
                                            .classes = kClasses,
                                            .buffers = kBertBuffers,
                                            .old_endings = kBertOldEndings,
                                            .caches_keys = false}};

}  // namespace

const Architecture& bert() { return kBert; }

}  // namespace sluice::checkpoint::architectures
