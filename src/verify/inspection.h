// Inspection: what a checkpoint is, from headers and JSON alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace sluice::verify {

struct EncodingShare {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};

struct Inspection {
  std::string ref, kind;     // "safetensors", "pytorch", "gguf", "recipe"
  std::string architecture;  // empty: unknown
  uint64_t parameters = 0;   // counted from headers
  std::optional<uint64_t> parameters_from_config;
  uint64_t tensors = 0, bytes = 0;
  std::map<std::string, EncodingShare> encodings;
  std::vector<checkpoint::Checkpoint::File> files;
  std::vector<std::string> side_files;
  std::vector<std::string> tied;  // not stored: the config says that they are the embedding
  std::vector<checkpoint::Problem> problems;
};

Inspection Inspect(const checkpoint::Checkpoint& checkpoint);

}  // namespace sluice::verify
