// What BERT and RoBERTa have in common, but for their classes' heads.
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

// In files of 2018 and 2019.
inline constexpr OldEnding kBertOldEndings[] = {{"LayerNorm.gamma", "LayerNorm.weight"},
                                                {"LayerNorm.beta", "LayerNorm.bias"}};
inline constexpr std::string_view kBertBuffers[] = {"embeddings.position_ids", "embeddings.token_type_ids"};

}  // namespace sluice::checkpoint::architectures
