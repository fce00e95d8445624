// The task-vector family in mergekit's arithmetic: task_arithmetic, ties, dare_*, breadcrumbs_*, della_*.
#pragma once

#include <span>
#include <string>

#include "merge/task_vector_method.h"

namespace sluice::merge {

// A Method's build_as_mergekit, num_draws and check_as_mergekit.
const graph::Node* AddMergekitTaskVectors(const BuildArgs& args, const TaskVectorSettings& settings);
uint64_t MergekitDrawsOf(const ParameterValues& model, uint64_t num_elements, Sparsifier sparsifier);
std::string CheckMergekitTensor(const ParameterValues& model, std::span<const uint64_t> shape,
                                const TaskVectorSettings& settings);

}  // namespace sluice::merge
