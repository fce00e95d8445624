// What `lineage` reads: each tensor of MODEL beside BASE's and the candidates' of that name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "stream/stream.h"

namespace sluice::verify {

// A layer's number, by the first part of a tensor's name that is one.
std::optional<uint64_t> LayerOfName(std::string_view tensor);

struct LineageTensor {
  uint32_t model = 0;               // index in MODEL's catalogue
  uint32_t base = 0;                // in BASE's
  std::vector<int64_t> candidates;  // in theirs; -1: it has none that fits
  uint64_t num_elements = 0;        // that all have
  uint64_t columns = 0;             // of a matrix whose first rows alone are looked at; 0: all of it
  std::optional<uint64_t> layer;
};

// Something that was not looked at.
struct LineageGap {
  std::string tensor;
  int64_t candidate = -1;  // whose it is; -1: the whole tensor was left out, or cut for all
  std::string reason;
};

struct LineagePlan {
  std::vector<const checkpoint::Checkpoint*> models;  // MODEL, BASE, candidates
  std::vector<LineageTensor> tensors;                 // by name; none is empty
  std::vector<LineageGap> gaps;

  size_t num_candidates() const { return models.size() - 2; }
};

// By names and shapes. Matrices of another number of rows (a vocabulary that was extended) meet in their first ones; a
// candidate that has less than 9/10 of them, or other columns, is left out of that tensor. The checkpoints outlive it.
LineagePlan PlanLineage(const checkpoint::Checkpoint& model, const checkpoint::Checkpoint& base,
                        const std::vector<const checkpoint::Checkpoint*>& candidates);

// A group for each tensor of the plan, which outlives it. Outs: MODEL, BASE, and those candidates that have it.
class LineageGroups final : public stream::GroupSource {
 public:
  explicit LineageGroups(const LineagePlan& plan) : plan_(plan) {}
  size_t size() const override { return plan_.tensors.size(); }
  std::string name(size_t group) const override;
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;

 private:
  const LineagePlan& plan_;
};

}  // namespace sluice::verify
