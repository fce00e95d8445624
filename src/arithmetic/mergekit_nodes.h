// The nodes of mergekit's arithmetic that need nothing but their inputs: F32 nodes whose values are rounded to the
// working type after each step, as docs/mergekit_arithmetic.md tells.
#pragma once

#include <vector>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// x - base.
const graph::Node* AddMergekitDelta(graph::Graph* graph, WorkingType type, const graph::Node* x,
                                    const graph::Node* base);

// base + x.
const graph::Node* AddMergekitSum(graph::Graph* graph, WorkingType type, const graph::Node* base, const graph::Node* x);

// base + lambda * (sum of w_m d_m) [/ divisor], the sums over models in torch's order.
struct MergekitMix {
  WorkingType type = WorkingType::kF32;
  std::vector<float> weights;  // as the recipe has them; rounded here
  bool consensus = false, normalize = false;
  double lambda = 1;
};
const graph::Node* AddMergekitMix(graph::Graph* graph, const MergekitMix& mix, const graph::Node* base,
                                  const std::vector<const graph::Node*>& deltas);

// sum of w_m x_m [/ sum of w_m].
const graph::Node* AddMergekitLinear(graph::Graph* graph, WorkingType type, const std::vector<float>& weights,
                                     bool normalize, const std::vector<const graph::Node*>& inputs);

// scale * x.
const graph::Node* AddMergekitProduct(graph::Graph* graph, WorkingType type, const graph::Node* x, float scale);

// a * b.
const graph::Node* AddMergekitProductOf(graph::Graph* graph, WorkingType type, const graph::Node* a,
                                        const graph::Node* b);

// nearswap: w x + (1 - w) base, w = t / |base - x| between 0 and 1.
const graph::Node* AddMergekitNearswap(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                       const graph::Node* x, float t);

}  // namespace sluice::arithmetic
