// karcher in mergekit's arithmetic: its iteration over whole tensors, each step rounded to the working type.
#pragma once

#include <cstdint>
#include <vector>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

struct MergekitKarcher {
  WorkingType type = WorkingType::kF32;
  uint64_t max_iter = 10;
  double tol = 1e-5;
};

// x: at least two.
const graph::Node* AddMergekitKarcher(graph::Graph* graph, const MergekitKarcher& karcher,
                                      const std::vector<const graph::Node*>& x);

}  // namespace sluice::arithmetic
