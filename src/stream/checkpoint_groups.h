// Groups made of checkpoints: each tensor alone, or the same tensor of several checkpoints side by side.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "stream/stream.h"

namespace sluice::stream {

// One group per tensor, in the order given (indices into checkpoint.tensors(); empty order: all, by name).
class CheckpointGroups final : public GroupSource {
 public:
  explicit CheckpointGroups(const checkpoint::Checkpoint& checkpoint, std::vector<uint32_t> order = {});
  size_t size() const override { return order_.size(); }
  std::string name(size_t group) const override;
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;
  size_t tensor(size_t group) const { return order_[group]; }

 private:
  const checkpoint::Checkpoint& checkpoint_;
  std::vector<uint32_t> order_;
};

// A row of tensors of several checkpoints in lockstep; all must have the same number of elements.
class LockstepGroups final : public GroupSource {
 public:
  struct Member {
    const checkpoint::Checkpoint* checkpoint;
    uint32_t tensor;
  };
  explicit LockstepGroups(std::vector<std::vector<Member>> groups) : groups_(std::move(groups)) {}
  size_t size() const override { return groups_.size(); }
  std::string name(size_t group) const override;
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;
  const std::vector<Member>& members(size_t group) const { return groups_[group]; }

 private:
  std::vector<std::vector<Member>> groups_;
};

}  // namespace sluice::stream
