// Masks that mergekit draws from torch's generator, one word an element: d or 0.
#pragma once

#include <cstdint>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

struct MergekitDraws {
  uint32_t seed = 0;
  uint64_t first = 0;  // where this mask begins in the seed's stream
};

// Each element kept with probability `density`, rounded to the type that masks are computed in.
const graph::Node* AddRandomMask(graph::Graph* graph, WorkingType type, double density, const MergekitDraws& draws,
                                 const graph::Node* delta);

// magprune: within a row of `columns` elements the probability rises with the rank of the magnitude, from density -
// epsilon to density + epsilon. Needs whole rows of its input; two columns at least.
const graph::Node* AddMagpruneMask(graph::Graph* graph, WorkingType type, double density, double epsilon,
                                   uint64_t columns, const MergekitDraws& draws, const graph::Node* delta);

}  // namespace sluice::arithmetic
