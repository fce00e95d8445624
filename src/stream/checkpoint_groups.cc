#include "stream/checkpoint_groups.h"

#include <numeric>

#include "base/check.h"

namespace sluice::stream {

CheckpointGroups::CheckpointGroups(const checkpoint::Checkpoint& checkpoint, std::vector<uint32_t> order)
    : checkpoint_(checkpoint), order_(std::move(order)) {
  if (order_.empty()) {
    order_.resize(checkpoint.tensors().size());
    std::iota(order_.begin(), order_.end(), 0);
  }
  for (const uint32_t tensor : order_) SLUICE_CHECK(tensor < checkpoint.tensors().size());
}

std::string CheckpointGroups::name(size_t group) const {
  return std::string(checkpoint_.tensors()[order_[group]].name);
}

void CheckpointGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  outs->push_back(checkpoint_.MakeNode(order_[group], graph));
}

std::string LockstepGroups::name(size_t group) const {
  const Member& first = groups_[group].front();
  return std::string(first.checkpoint->tensors()[first.tensor].name);
}

void LockstepGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  for (const Member& member : groups_[group]) outs->push_back(member.checkpoint->MakeNode(member.tensor, graph));
}

}  // namespace sluice::stream
