// A folder as Hugging Face lays it out: weights with or without an index, config.json, tokenizer files, and whatever
// else lies there, which is reported where it may be mistaken for weights.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "checkpoint/model_ref.h"

namespace sluice::checkpoint {

// OpenFolder of model_ref.h, where what the user wrote (`ref`) is not the path.
Result<std::shared_ptr<const Checkpoint>> OpenFolderAs(const std::string& ref, const std::string& path,
                                                       const OpenOptions& options);

// Files that go along with the weights: tokenizer, chat template, generation config, licence.
bool IsSideFile(std::string_view name);

}  // namespace sluice::checkpoint
