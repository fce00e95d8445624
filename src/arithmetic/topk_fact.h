// TopkFact: which elements torch.topk finds the largest in magnitude, as sce asks it: k = trunc(share n'), n' of the
// tensor's elements not being 0, in f32. Which of equal ones are among the k is what libstdc++'s std::partial_sort (for
// 64 k <= n) or std::nth_element leaves there: it takes the whole tensor in memory, 8 bytes an element.
#pragma once

#include "arithmetic/order_fact.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// Value: KeptElements'.
class TopkFact final : public graph::Fact {
 public:
  // 0 <= share < 1; at most 2^32 elements, F32.
  TopkFact(const graph::Node* values, double share);
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 20; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  double share_;
};

// 1 where an element is one of them, else 0.
const graph::Node* AddTopkMask(graph::Graph* graph, const graph::Node* values, double share);

}  // namespace sluice::arithmetic
