// KeptMagnitudes: |d| of every element of a tensor that is small enough, kept by blocks. Different blocks may be
// written by different workers at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "arithmetic/fold_memory.h"
#include "graph/node.h"

namespace sluice::arithmetic {

class KeptMagnitudes {
 public:
  KeptMagnitudes(uint64_t num_elements, std::shared_ptr<FoldMemory> memory);
  static uint64_t StateBytes(uint64_t num_elements);
  uint64_t size() const { return num_elements_; }

  // From `element` on to the end of its block. Takes memory where this is the block's first.
  float* From(uint64_t element);
  // Runs body(begin, magnitudes, count) for each block in order; all must have been written.
  template <class Body>
  void ForBlocks(const Body& body) {
    for (uint64_t begin = 0; begin < num_elements_; begin += graph::kBlockElements) {
      body(begin, From(begin), std::min(graph::kBlockElements, num_elements_ - begin));
    }
  }

 private:
  const uint64_t num_elements_;
  const std::shared_ptr<FoldMemory> memory_;
  std::vector<float> few_;                  // of a tensor of half a block at most
  std::vector<FoldNumbers<float>> blocks_;  // of any other
};

}  // namespace sluice::arithmetic
