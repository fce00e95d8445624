// The task-vector family of methods: task_arithmetic, ties, dare_*, breadcrumbs* and della* are settings of one node.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "merge/method.h"

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

}  // namespace sluice::merge
