// What the keys of a GGUF model say about its model, and the config.json that says the same.
// docs/formats/gguf.md has the table of keys.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/architecture.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_parts.h"

namespace sluice::checkpoint {

// An architecture as GGUF names it. A row makes it known here, once checkpoint/architectures has its data.
struct GgufArchitecture {
  std::string_view name;          // general.architecture, and the prefix of its keys
  std::string_view hugging_face;  // of config.json's architectures
  bool permutes_heads = false;    // rows of Q and K lie as llama.cpp's own rotary embedding wants them
};

// The one that llama.cpp runs a model of this class as (a Mistral is a llama); null where there is none.
const GgufArchitecture* GgufArchitectureFor(const Architecture& architecture);

struct GgufModel {
  const GgufArchitecture* gguf;
  const Architecture* architecture;
  ModelSizes sizes;               // all but vocab, which may be 0, from 1 to 2^32 - 1; layers no more than tensors
  nlohmann::ordered_json config;  // keys of transformers 4, sorted
};

// kUnsupported names an architecture, or a key whose meaning config.json or this version has no place for and that
// changes what the model computes; kCorrupt names a key that is missing or makes no sense. Appends to `problems` what
// was assumed and what is left out. Reads the keys, and tensors of rotary factors (a few hundred bytes).
Result<GgufModel> ReadGgufModel(const GgufParts& parts, std::vector<Problem>* problems);

}  // namespace sluice::checkpoint
