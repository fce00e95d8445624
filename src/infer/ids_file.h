// Token ids from a file, so that a model can be run without a tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::infer {

// The tensor `input_ids`, I64 [sequences, tokens], of a safetensors file. kCorrupt, naming file, sequence and token:
// another dtype or shape, nothing in it, an id below 0 or over 2^32 - 1. Other tensors of the file are ignored.
Result<std::vector<std::vector<uint32_t>>> ReadIdsFile(const std::string& path);

}  // namespace sluice::infer
