// What the keys of a llama-architecture GGUF say about its model, and the config.json that says the same.
// docs/formats/gguf.md has the table of keys.
#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "formats/gguf.h"

namespace sluice::checkpoint {

struct GgufLlama {
  // All from 1 to 2^32 - 1; num_layers no more than the file has tensors.
  uint64_t num_layers, hidden, ffn, num_heads, num_kv_heads, head_dim;
  nlohmann::ordered_json config;  // keys of transformers 4, sorted
};

// kUnsupported names an architecture, or a key whose meaning config.json or this version has no place for and that
// changes what the model computes; kCorrupt names a key that is missing or makes no sense. Appends to `problems` what
// was assumed and what is left out.
Result<GgufLlama> ReadGgufLlama(const formats::GgufFile& file, std::vector<Problem>* problems);

}  // namespace sluice::checkpoint
