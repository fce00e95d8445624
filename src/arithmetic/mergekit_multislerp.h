// multislerp in mergekit's arithmetic, with its step along the tangent space, which is nothing but rounding.
#pragma once

#include <vector>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

struct MergekitMultislerp {
  WorkingType type = WorkingType::kF32;
  std::vector<float> weights;  // as the recipe has them; rounded here
  bool normalize = true;
  double eps = 1e-8;
};

// base: or null. x: at least two.
const graph::Node* AddMergekitMultislerp(graph::Graph* graph, const MergekitMultislerp& multislerp,
                                         const graph::Node* base, const std::vector<const graph::Node*>& x);

}  // namespace sluice::arithmetic
