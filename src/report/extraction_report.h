// Text and JSON of `extract-lora`. docs/formats/json.md describes the fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint_writer.h"

namespace sluice::report {

struct ExtractionResult {
  struct Layer {
    std::string name;
    uint64_t rank = 0;
    double relative_error = 0;              // |D - B A| / |D|, D the difference of the tensor from the base's
    double energy = 0;                      // |B A|^2 / |D|^2
    std::optional<double> relative_change;  // |D| / |base|; none where the base's is zero
  };
  struct Left {  // differs, and is not in the adapter
    std::string name, reason;
    std::optional<double> relative_change;
    double energy = 0;  // of the differences of all tensors together, the part that is its own
  };
  std::string adapter, finetune, base;
  uint64_t rank = 0, seed = 0;
  std::vector<Layer> layers;        // by name
  std::vector<Left> not_captured;   // by name
  std::vector<std::string> unread;  // tensors that have no arithmetic
  uint64_t unchanged = 0;           // tensors
  double relative_error = 0;        // of all differences together, those not captured included
  std::vector<checkpoint::WrittenFile> files;
  uint64_t bytes_read = 0, bytes_written = 0;
  double seconds = 0;
  uint64_t peak_memory_bytes = 0;
};

nlohmann::ordered_json ExtractionJson(const ExtractionResult& result);
// Layers worst first, some of them.
std::string ExtractionText(const ExtractionResult& result);

}  // namespace sluice::report
