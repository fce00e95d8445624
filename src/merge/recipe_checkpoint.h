// RecipeCheckpoint: the checkpoint that a recipe makes, computed as it is read. Whatever takes a model takes a recipe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "merge/mergekit_plan.h"
#include "merge/recipe.h"
#include "merge/tensor_match.h"

namespace sluice::merge {

class RecipeCheckpoint final : public checkpoint::Checkpoint {
 public:
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;

  const Recipe& recipe() const { return recipe_; }
  uint64_t seed() const { return seed_; }
  const char* arithmetic() const { return arithmetic_ == Arithmetic::kMergekit ? "mergekit" : "exact"; }
  // "bfloat16", ...; empty where each tensor keeps the base's encoding.
  std::string dtype() const;

  struct ParentInfo {
    bool is_base;
    std::string reference, path, kind;  // as the recipe writes it; as it was found; "safetensors", ...
    uint64_t size_bytes;                // of tensors
  };
  // The base first, then the models in recipe order.
  const std::vector<ParentInfo>& parents() const { return parents_; }

 private:
  friend class RecipeOpener;
  explicit RecipeCheckpoint(Recipe recipe) : recipe_(std::move(recipe)) {}

  Recipe recipe_;
  uint64_t seed_ = 0;
  Arithmetic arithmetic_ = Arithmetic::kExact;
  MergekitPlan mergekit_;                                // where that is the arithmetic
  std::shared_ptr<const checkpoint::Checkpoint> owner_;  // whose catalogue, config and side files the result has
  bool has_base_ = false;                                // the owner is the method's base
  std::vector<MergedModel> models_;
  ParameterValues parameters_;
  std::vector<uint32_t> places_;  // TensorMatch::places
  std::vector<ParentInfo> parents_;
};

// Opens the parents and checks all that can be known from their headers. Every error of the recipe comes back in one
// Error (Diagnostics::ToError). options.seed and options.arithmetic win over what the recipe says. Notes and warnings
// are in problems().
Result<std::shared_ptr<const RecipeCheckpoint>> OpenRecipe(Recipe recipe, const checkpoint::OpenOptions& options);

// An Opener for references that end in .yml or .yaml, or in .yml#name; the name must be the recipe's own.
std::optional<Result<std::shared_ptr<const checkpoint::Checkpoint>>> OpenRecipeReference(
    const std::string& ref, const checkpoint::OpenOptions& options);

}  // namespace sluice::merge
