// model_stock in mergekit's arithmetic. Lengths are torch's norms (ordered_sums.h), inner products its sums; each step
// is rounded to the working type.
#pragma once

#include <vector>

#include "arithmetic/gram_fact.h"
#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// t of the whole tensor, or of each row. The norm of a whole tensor is one chain of additions: the fold takes it in
// windows of blocks, each read in a pass of its own, so that it holds no more than one window; the tensor is read once.
//
// Value: a t for each vector. Memory: whole: up to 32 MiB, or a block of each model where that is more; rows: 4 bytes
// for each pair of models and row, and the rows under way.
class StockFact final : public graph::Fact {
 public:
  // deltas: x_m - b, F32 of the type's numbers; two or more. vectors: kWhole or kRows.
  StockFact(WorkingType type, const Vectors& vectors, std::vector<const graph::Node*> deltas);
  int max_passes() const override;
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override;
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  WorkingType type_;
  Vectors vectors_;
};

// t mean_m x_m + (1 - t) b.
const graph::Node* AddMergekitModelStock(graph::Graph* graph, WorkingType type, const Vectors& vectors,
                                         const graph::Node* base, const std::vector<const graph::Node*>& x);

}  // namespace sluice::arithmetic
