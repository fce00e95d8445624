// ArceeFusionNode: one tensor merged by arcee_fusion (methods/arcee_fusion.cc has the formula): a row's divergence and
// the threshold of the scores are facts of the whole tensor.
#pragma once

#include "arithmetic/fold_memory.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// Value: {bits of the threshold as f32, then of each row's divergence as f32}. Where every difference can be kept
// (MagnitudeRanks::KeepsAll), one pass: they become scores when the divergences are known. Else one for the
// divergences, and those of MagnitudeRanks for three quantiles of the scores at once. Memory: 40 bytes for each row and
// block beside the ranks'.
class ArceeFusionFact final : public graph::Fact {
 public:
  // F32; rows of `columns` elements.
  ArceeFusionFact(const graph::Node* base, const graph::Node* x, uint64_t columns);
  int max_passes() const override;
  double expected_passes() const override;
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 15; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  uint64_t columns_;
  std::shared_ptr<FoldMemory> memory_ = FoldMemory::Shared();  // so that parts last from one fold to the next
};

class ArceeFusionNode final : public graph::Node {
 public:
  ArceeFusionNode(const graph::Node* base, const graph::Node* x, uint64_t columns);
  void Compute(const graph::ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 1; }

 private:
  uint64_t columns_;
};

}  // namespace sluice::arithmetic
