// TaskVectorNode: one tensor merged by a method of the task-vector family: base + lambda * mixed, as
// kernels/task_vectors.h has it. task_arithmetic, ties, dare_*, breadcrumbs* and della* are settings of it.
#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"
#include "kernels/task_vectors.h"
#include "merge/band_fact.h"
#include "merge/method.h"
#include "merge/sparse_masks.h"

namespace sluice::merge {

// What a method leaves of a model's difference from the base.
enum class Sparsifier {
  kNone,
  kMagnitude,  // the largest
  kRandom,     // some by chance
  kOutliers,   // the largest but for the very largest; a parameter gamma
  kRank,       // some by chance, the larger ones of a row more likely; a parameter epsilon
};

struct TaskVectorSettings {
  Sparsifier sparsifier = Sparsifier::kNone;
  bool consensus = false;
};

// Places of the family's parameters.
struct TaskVectorParameter {
  enum Place : size_t { kWeight, kDensity, kNormalize, kRescale, kLambda, kInt8Mask, kGamma, kEpsilon = kGamma };
};

// The family's parameters, in the order of TaskVectorParameter; which are used, defaults and help vary by
// method.
std::vector<ParameterInfo> TaskVectorParameters(const TaskVectorSettings& settings, bool normalize, bool rescale);

// A Method's build for the family.
const graph::Node* AddTaskVectorNode(const BuildArgs& args, const TaskVectorSettings& settings);

// trunc(density n): how many elements the magnitude sparsifier keeps.
uint64_t MagnitudeKeeps(double density, uint64_t num_elements);
// A Method's check_models for kRank: density +- epsilon must lie between 0 and 1.
std::string CheckRankDensities(std::span<const ParameterValues> models, const ParameterValues& recipe);

class TaskVectorNode final : public graph::Node {
 public:
  struct Model {
    float weight = 0;
    float scale = 1;               // a constant rescale
    bool scale_by_l1 = false;      // `rescale: true`: scale comes from the fact
    kernels::DeltaMask mask;       // kMagnitude: threshold and last_tie come from the fact
    uint64_t keep = 0;             // kMagnitude: how many
    std::optional<Band> band;      // kGiven: of breadcrumbs, whose thresholds come from the fact
    std::optional<RankMask> rank;  // kGiven: of della
  };
  struct Settings {
    bool consensus = false, normalize = false;
    float lambda = 1;
  };
  // inputs: the base, then the models, F32, then a RankMaskNode for each model with a rank.
  TaskVectorNode(const Settings& settings, std::vector<Model> models, std::vector<const graph::Node*> inputs);
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override;

 private:
  bool HasBands() const;

  Settings settings_;
  std::vector<Model> models_;
  std::vector<int> fact_of_;     // per model, -1 where none
  std::vector<size_t> mask_of_;  // per model: the input that has the mask of its ranks, 0 where none
};

}  // namespace sluice::merge
