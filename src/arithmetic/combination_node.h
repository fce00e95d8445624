// CombinationNode: out = sum_m c_m x_m, or b + sum_m c_m (x_m - b) with a base, where a GramFact finds the factors c:
// of the tensor, or of each of its rows or columns. In f64, rounded once to F32.
#pragma once

#include <vector>

#include "arithmetic/gram_fact.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

class CombinationNode final : public graph::Node {
 public:
  // base: F32, or null. x: F32.
  CombinationNode(const graph::Node* base, const std::vector<const graph::Node*>& x, const Vectors& vectors,
                  const Combination& combination);
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override { return 0.3 + 0.15 * static_cast<double>(num_models_); }

 private:
  const bool has_base_;
  const size_t num_models_;
  const Vectors vectors_;
};

}  // namespace sluice::arithmetic
