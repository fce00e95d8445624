// The task-vector family in mergekit's arithmetic: task_arithmetic, ties, dare_*, breadcrumbs_*, della_*.
#pragma once

#include <span>
#include <string>

#include "merge/method.h"

namespace sluice::merge {

enum class MergekitSparsifier { kNone, kMagnitude, kRandom, kOutliers, kMagprune };

struct MergekitFamily {
  MergekitSparsifier sparsifier = MergekitSparsifier::kNone;
  bool consensus = false;
  size_t extra = 0;  // index of gamma (kOutliers) or epsilon (kMagprune) among the parameters
};

// A Method's build_as_mergekit, num_draws and check_as_mergekit. The first parameters are TaskVectorParameters'.
const graph::Node* AddMergekitTaskVectors(const BuildArgs& args, const MergekitFamily& family);
uint64_t MergekitDrawsOf(const ParameterValues& model, uint64_t num_elements, MergekitSparsifier sparsifier);
std::string CheckMergekitTensor(const ParameterValues& model, std::span<const uint64_t> shape,
                                const MergekitFamily& family);

}  // namespace sluice::merge
