// Whether shards are of one model: their headers beside the index, config.json and each other.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/folder_index.h"
#include "checkpoint/model_config.h"
#include "checkpoint/weight_file.h"

namespace sluice::verify {

struct Shard {
  std::string name;
  const checkpoint::WeightFile* header;
};

// Told of a file that does not go with the others: its name, and why.
using Disagreement = std::function<void(const std::string& file, std::string why)>;

// Tensors that the index maps to a shard and that are not in it. Where that is so of every one of several shards, it is
// the index (`index_name`) that does not agree.
void CompareWithIndex(const checkpoint::FolderIndex& index, const std::string& index_name,
                      const std::vector<Shard>& shards, const Disagreement& tell);

// Shapes that are not those of the config; where every shard has such, it is config.json that does not agree. And
// shards without any matrix in the encoding that the config names while the others have it.
void CompareWithConfig(const checkpoint::ModelConfig& config, const std::vector<Shard>& shards,
                       const Disagreement& tell);

}  // namespace sluice::verify
