// A checkpoint whose tensors lie in memory: for tests that want to see every byte and no disk.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace sluice::tests {

struct MemoryTensor {
  std::string name, encoding;
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;
};

// `values` in `encoding` by its own encoder (F32, BF16, F16, Q8_0, ...).
MemoryTensor EncodedTensor(std::string name, const std::string& encoding, std::vector<uint64_t> shape,
                           const std::vector<float>& values);

// `config`: config.json's text, empty for none.
std::shared_ptr<const checkpoint::Checkpoint> MakeMemoryCheckpoint(std::string ref, std::vector<MemoryTensor> tensors,
                                                                   const std::string& config = "");

}  // namespace sluice::tests
