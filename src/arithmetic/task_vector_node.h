// TaskVectorNode: one tensor merged by a method of the task-vector family: base + lambda * mixed, as
// kernels/task_vectors.h has it.
#pragma once

#include <optional>
#include <vector>

#include "arithmetic/band_fact.h"
#include "arithmetic/sparse_masks.h"
#include "graph/graph.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {

class TaskVectorNode final : public graph::Node {
 public:
  struct Model {
    float weight = 0;
    float scale = 1;             // a constant rescale
    bool scale_by_l1 = false;    // `rescale: true`: scale comes from the fact
    kernels::DeltaMask mask;     // kMagnitude: threshold and last_tie come from the fact
    uint64_t keep = 0;           // kMagnitude: how many
    std::optional<Band> band;    // kGiven: of breadcrumbs, whose thresholds come from the fact
    bool mask_is_input = false;  // kGiven: by a node
  };
  struct Settings {
    bool consensus = false, normalize = false;
    float lambda = 1;
  };
  // inputs: the base, then the models, F32, then a node of MaskEncoding for each model whose mask is an input.
  TaskVectorNode(const Settings& settings, std::vector<Model> models, std::vector<const graph::Node*> inputs);
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override;

 private:
  bool HasBands() const;

  Settings settings_;
  std::vector<Model> models_;
  std::vector<int> fact_of_;     // per model, -1 where none
  std::vector<size_t> mask_of_;  // per model: the input that is its mask, 0 where none
};

}  // namespace sluice::arithmetic
