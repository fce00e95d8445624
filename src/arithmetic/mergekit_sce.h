// sce in mergekit's arithmetic: variances and means as torch has them, the largest variances as its topk chooses them,
// each step rounded to the working type.
#pragma once

#include <vector>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// The models' weights: the mean of d^2 over the tensor, divided by their sum; all the same where that is under 1e-6.
//
// Value: a weight for each model.
class SceWeightsFact final : public graph::Fact {
 public:
  // deltas: F32 of the type's numbers.
  SceWeightsFact(WorkingType type, std::vector<const graph::Node*> deltas);
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 0.6 * static_cast<double>(inputs().size()); }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  WorkingType type_;
};

// Of each element over the models, divided by their number; found in f64.
const graph::Node* AddTorchVariance(graph::Graph* graph, WorkingType type,
                                    const std::vector<const graph::Node*>& inputs);

// select_topk >= 1: all positions.
const graph::Node* AddMergekitSce(graph::Graph* graph, WorkingType type, double select_topk, const graph::Node* base,
                                  const std::vector<const graph::Node*>& x);

}  // namespace sluice::arithmetic
