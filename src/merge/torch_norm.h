// torch.norm (the square root of the sum of squares) of f32, bf16 and f16 numbers, in the order in which torch adds
// them on a CPU with one thread and 256-bit vectors. Unlike its sums this is one chain: every addition needs the one
// before.
//
// f32 and bf16: lane i % 8 adds element i's square, as far as there are whole vectors (8 numbers of f32, 16 of bf16);
// then the lanes in order; then what is left over, one by one (f32: what is behind the last four of these by a fused
// multiply-add). f16: one by one from the first. The root is rounded to the type.
#pragma once

#include <cstdint>
#include <span>

#include "merge/working_type.h"

namespace sluice::merge {

class TorchNorm {
 public:
  TorchNorm(WorkingType type, uint64_t num_elements);
  // The next `count` elements.
  void Add(const float* values, uint64_t count);
  float Finish() const;

 private:
  void AddOne(float value);

  WorkingType type_;
  uint64_t num_elements_, lanes_end_;  // what is added in lanes
  uint64_t next_ = 0;
  float lanes_[8] = {};
  float sum_ = 0;  // of the lanes, and what follows them
};

// Of an array.
float TorchNormOf(WorkingType type, std::span<const float> values);

}  // namespace sluice::merge
