// What BERT, RoBERTa and XLM-RoBERTa have in common.
#pragma once

#include <string_view>

#include "checkpoint/architecture.h"

namespace sluice::checkpoint::architectures {

inline constexpr PartRule kBertTensors[] = {
    {Part::kEmbedding, "^embeddings.word_embeddings.weight", "vocab_size, hidden_size"},
    {Part::kEmbedding, "^embeddings.position_embeddings.weight", "max_position_embeddings, hidden_size"},
    {Part::kEmbedding, "^embeddings.token_type_embeddings.weight", "type_vocab_size, hidden_size"},
    {Part::kNorms, "^embeddings.LayerNorm.weight", "hidden_size"},
    {Part::kNorms, "^embeddings.LayerNorm.bias", "hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.query.weight", "hidden_size, hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.query.bias", "hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.key.weight", "hidden_size, hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.key.bias", "hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.value.weight", "hidden_size, hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.self.value.bias", "hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.output.dense.weight", "hidden_size, hidden_size"},
    {Part::kAttention, "^encoder.layer.*.attention.output.dense.bias", "hidden_size"},
    {Part::kNorms, "^encoder.layer.*.attention.output.LayerNorm.weight", "hidden_size"},
    {Part::kNorms, "^encoder.layer.*.attention.output.LayerNorm.bias", "hidden_size"},
    {Part::kMlp, "^encoder.layer.*.intermediate.dense.weight", "intermediate_size, hidden_size"},
    {Part::kMlp, "^encoder.layer.*.intermediate.dense.bias", "intermediate_size"},
    {Part::kMlp, "^encoder.layer.*.output.dense.weight", "hidden_size, intermediate_size"},
    {Part::kMlp, "^encoder.layer.*.output.dense.bias", "hidden_size"},
    {Part::kNorms, "^encoder.layer.*.output.LayerNorm.weight", "hidden_size"},
    {Part::kNorms, "^encoder.layer.*.output.LayerNorm.bias", "hidden_size"},
};

// What their classes add.
inline constexpr PartRule kBertPooled[] = {
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size"},
};
inline constexpr PartRule kRobertaMasked[] = {
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
inline constexpr PartRule kRobertaSequences[] = {
    {Part::kHead, "classifier.dense.weight", "hidden_size, hidden_size"},
    {Part::kHead, "classifier.dense.bias", "hidden_size"},
    {Part::kHead, "classifier.out_proj.weight", "num_labels, hidden_size"},
    {Part::kHead, "classifier.out_proj.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
inline constexpr PartRule kBertTokenClasses[] = {
    {Part::kHead, "classifier.weight", "num_labels, hidden_size"},
    {Part::kHead, "classifier.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};
inline constexpr PartRule kBertAnswers[] = {
    {Part::kHead, "qa_outputs.weight", "num_labels, hidden_size"},
    {Part::kHead, "qa_outputs.bias", "num_labels"},
    {Part::kOther, "^pooler.dense.weight", "hidden_size, hidden_size", "?"},
    {Part::kOther, "^pooler.dense.bias", "hidden_size", "?"},
};

// In files of 2018 and 2019.
inline constexpr OldEnding kBertOldEndings[] = {{"LayerNorm.gamma", "LayerNorm.weight"},
                                                {"LayerNorm.beta", "LayerNorm.bias"}};
inline constexpr std::string_view kBertBuffers[] = {"embeddings.position_ids", "embeddings.token_type_ids"};

}  // namespace sluice::checkpoint::architectures
