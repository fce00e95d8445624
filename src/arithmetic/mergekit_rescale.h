// `rescale: true` in mergekit's arithmetic: what is left of a delta times sum |d| / sum |masked d|, both sums
// whole-tensor ones of torch's, rounded to the type that masks are computed in, as is their quotient.
#pragma once

#include "arithmetic/torch_sum.h"
#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// The quotient, 1 where either sum is under 1e-7 of the type. `type`: what masks are computed in.
float MergekitScale(WorkingType type, double before, double after);

// masked times the quotient, in the masks' type of `type`, then rounded to `type`.
const graph::Node* AddMergekitRescale(graph::Graph* graph, WorkingType type, const graph::Node* delta,
                                      const graph::Node* masked);

}  // namespace sluice::arithmetic
