// slerp in mergekit's arithmetic: in f32 by numpy, rounded once to the working type.
#pragma once

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

const graph::Node* AddMergekitSlerp(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                    const graph::Node* x, double t);

}  // namespace sluice::arithmetic
