// WeightedSumNode: sum of w x over its inputs, in their order, in f32; divided by `divisor` unless that is 1.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace sluice::arithmetic {

class WeightedSumNode final : public graph::Node {
 public:
  // inputs: F32, one for each weight.
  WeightedSumNode(std::vector<float> weights, float divisor, std::vector<const graph::Node*> inputs);
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override { return 0.2 + 0.15 * static_cast<double>(weights_.size()); }

 private:
  std::vector<float> weights_;
  float divisor_;
};

}  // namespace sluice::arithmetic
