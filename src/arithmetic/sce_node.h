// SceNode: one tensor merged by sce (methods/sce.cc has the formula): which positions are kept and how the models weigh
// are facts of the whole tensor.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace sluice::arithmetic {

// Value: {variance's bits as f32, last tie kept, a weight for each model}. Of the positions, ordered by variance from
// the largest and equal ones by index, those up to the last tie are kept. Passes: one to count the
// variances that are not 0, those of MagnitudeRanks, one for the weights; with select_topk 1 the last alone.
class SceFact final : public graph::Fact {
 public:
  // inputs: the base, then the models, F32. 0 < select_topk.
  SceFact(std::vector<const graph::Node*> inputs, double select_topk);
  int max_passes() const override;
  double expected_passes() const override;
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 0.4 * static_cast<double>(inputs().size()); }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  double select_topk_;
};

class SceNode final : public graph::Node {
 public:
  SceNode(const std::vector<const graph::Node*>& inputs, double select_topk);
  void Compute(const graph::ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0.4 * static_cast<double>(inputs().size()); }
  uint64_t ScratchBytes() const override;

 private:
  bool selects_;
};

}  // namespace sluice::arithmetic
