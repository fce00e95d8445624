// What a recipe's tensors are in mergekit's arithmetic: the type that each is computed in and stored as, and where its
// draws begin. docs/mergekit_arithmetic.md.
#pragma once

#include <span>
#include <vector>

#include "arithmetic/draw_plan.h"
#include "merge/merge_plan.h"

namespace sluice::merge {

struct MergekitPlan {
  std::vector<quant::Encoding> working;  // of each tensor of the catalogue; invalid where it is carried
  arithmetic::DrawPlan draws;
};

// Gives the plan's catalogue the types that mergekit stores. dtype, out_dtype: the recipe's; invalid where absent. Adds
// an error for what the arithmetic cannot merge. The plan is of a recipe without errors.
MergekitPlan PlanMergekit(const Method& method, quant::Encoding dtype, quant::Encoding out_dtype, MergePlan* plan,
                          Diagnostics* diagnostics);

// The node of one tensor. args: as for the exact arithmetic, but inputs may be as their models store them.
const graph::Node* BuildAsMergekit(const Method& method, BuildArgs args, std::span<const uint64_t> first_draws);

// What keeps a recipe from this arithmetic, before its models are opened: the method, the seed, the word `density`.
void CheckForMergekit(const Recipe& recipe, uint64_t seed, Mark mark, Diagnostics* diagnostics);

}  // namespace sluice::merge
