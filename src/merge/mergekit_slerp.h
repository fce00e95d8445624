// slerp in mergekit's arithmetic: in f32 by numpy, rounded once to the working type.
#pragma once

#include "graph/graph.h"
#include "merge/working_type.h"

namespace sluice::merge {

const graph::Node* AddMergekitSlerp(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                    const graph::Node* x, double t);

}  // namespace sluice::merge
