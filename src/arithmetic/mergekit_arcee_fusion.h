// arcee_fusion in mergekit's arithmetic: softmax, logarithm and sums as torch has them (torch_softmax.h says how near),
// quantiles of a random million of the scores where there are more. Steps are rounded to the working type; the result
// is F32 in any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// sum p log(p / q) over a row, p and q the softmaxes of x and base, each plus 1e-8.
float MergekitDivergence(WorkingType type, std::span<const float> base, std::span<const float> x);

struct MergekitSampling {
  uint32_t seed = 0;
  uint64_t first_draw = 0;
};
// Words of torch's stream that a tensor takes.
uint64_t MergekitFusionDraws(uint64_t num_elements);

// Value: the threshold of the scores, then each row's divergence. Two passes: for the divergences, and for the scores
// that the quantiles are taken of. Memory: 8 bytes a row, rows under way, and 42 MB where a million scores are drawn
// (18 of them while it draws), 4 bytes an element in smaller tensors.
class FusionFact final : public graph::Fact {
 public:
  // F32 of the type's numbers; rows of `columns` elements.
  FusionFact(WorkingType type, uint64_t columns, const MergekitSampling& sampling, const graph::Node* base,
             const graph::Node* x);
  int max_passes() const override { return 2; }
  double expected_passes() const override { return 2; }
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 25; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  WorkingType type_;
  uint64_t columns_;
  MergekitSampling sampling_;
};

const graph::Node* AddMergekitArceeFusion(graph::Graph* graph, WorkingType type, uint64_t columns,
                                          const MergekitSampling& sampling, const graph::Node* base,
                                          const graph::Node* x);

}  // namespace sluice::arithmetic
