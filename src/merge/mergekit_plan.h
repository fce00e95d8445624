// What a recipe's tensors are in mergekit's arithmetic: the type that each is computed in and stored as, and where its
// draws begin. docs/mergekit_arithmetic.md.
#pragma once

#include <span>
#include <vector>

#include "merge/draw_plan.h"
#include "merge/tensor_match.h"

namespace sluice::merge {

struct MergekitPlan {
  std::vector<quant::Encoding> working;  // of each tensor of the catalogue; invalid where it is carried
  DrawPlan draws;
};

struct MergekitPlanArgs {
  const Method* method;
  const MergedModel* owner;  // of whose catalogue the match is
  bool has_base;             // the owner is the method's base
  std::span<const MergedModel> models;
  quant::Encoding dtype, out_dtype;  // the recipe's; invalid where absent
};

// Gives the match's catalogue the types that mergekit stores. Adds an error for what the arithmetic cannot merge.
MergekitPlan PlanMergekit(const MergekitPlanArgs& args, TensorMatch* match, Diagnostics* diagnostics);

// The node of one tensor. args: as for the exact arithmetic, but with inputs as their models store them.
const graph::Node* BuildAsMergekit(const Method& method, BuildArgs args, std::span<const uint64_t> first_draws);

// What keeps a recipe from this arithmetic, before its models are opened: the method, the seed, the word `density`.
void CheckForMergekit(const Method& method, const ParameterValues& parameters, uint64_t seed, Mark mark,
                      Diagnostics* diagnostics);

}  // namespace sluice::merge
