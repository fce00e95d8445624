// nuslerp in mergekit's arithmetic, of a tensor, or of each of its rows or columns.
#pragma once

#include <span>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

struct MergekitNuslerp {
  enum class Vectors { kWhole, kRows, kColumns };
  WorkingType type = WorkingType::kF32;
  double t = 0;
  Vectors vectors = Vectors::kWhole;
};

// base: or null. shape: of all of them.
const graph::Node* AddMergekitNuslerp(graph::Graph* graph, const MergekitNuslerp& nuslerp, const graph::Node* base,
                                      const graph::Node* first, const graph::Node* second,
                                      std::span<const uint64_t> shape);

}  // namespace sluice::arithmetic
