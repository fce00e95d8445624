#include "stream/cast_groups.h"

#include "graph/cast_node.h"

namespace sluice::stream {
namespace {

// What `out` is a cast of, below nodes that only move rows; null where there is no cast that may overflow.
const graph::Node* Source(const graph::Node* out) {
  const graph::Node* moved = out;
  while (dynamic_cast<const graph::RowGatherNode*>(moved) != nullptr) moved = moved->inputs()[0];
  const auto* cast = dynamic_cast<const graph::CastNode*>(moved);
  if (cast == nullptr || !cast->CanOverflow()) return nullptr;
  const graph::Node* source = cast->inputs()[0];
  return source->num_elements() == out->num_elements() ? source : nullptr;
}

}  // namespace

CastGroups::CastGroups(const GroupSource& groups) : groups_(groups), casts_(groups.size()) {
  std::vector<const graph::Node*> outs;
  for (size_t group = 0; group < casts_.size(); ++group) {
    graph::Graph graph;
    outs.clear();
    groups_.Build(group, &graph, &outs);
    const graph::Node* source = Source(outs.front());
    if (source == nullptr) continue;
    casts_[group] = {.to = outs.front()->encoding(),
                     .from = source->encoding(),
                     .same_order = dynamic_cast<const graph::CastNode*>(outs.front()) != nullptr};
  }
}

void CastGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  groups_.Build(group, graph, outs);
  if (const graph::Node* source = Source(outs->front())) outs->push_back(source);
}

}  // namespace sluice::stream
