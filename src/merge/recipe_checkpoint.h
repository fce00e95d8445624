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
#include "merge/merge_plan.h"
#include "merge/mergekit_plan.h"
#include "merge/recipe.h"

namespace sluice::merge {

class RecipeCheckpoint final : public checkpoint::Checkpoint {
 public:
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;

  const Recipe& recipe() const { return recipe_; }
  uint64_t seed() const { return seed_; }
  // What models are cast to before adapters are applied to them; invalid in Arithmetic::kExact.
  quant::Encoding lora_merge_dtype() const { return lora_merge_dtype_; }
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

  // One of what a tensor is merged of.
  struct Ingredient {
    size_t parent;            // in parents()
    bool is_base;             // what the method takes differences from
    const graph::Node* node;  // F32, of the result's shape: as the method sees it, rows of tokens in their places
    ParameterValues values;   // of the method's parameters, for this tensor
  };
  // In recipe order; nothing where the tensor is carried over as it is stored. Nodes are those of MakeNode in the same
  // graph.
  std::vector<Ingredient> Ingredients(size_t i, graph::Graph* graph) const;

 private:
  const graph::Node* TokenRowsOf(const PlannedSlice& slice, const uint32_t* places, size_t source, uint64_t columns,
                                 graph::Graph* graph) const;

  friend class RecipeOpener;
  explicit RecipeCheckpoint(Recipe recipe) : recipe_(std::move(recipe)) {}

  Recipe recipe_;
  uint64_t seed_ = 0;
  Arithmetic arithmetic_ = Arithmetic::kExact;
  quant::Encoding lora_merge_dtype_;                  // likewise kMergekit's alone
  MergekitPlan mergekit_;                             // where that is the arithmetic
  MergePlan plan_;                                    // but for the catalogue, which is the checkpoint's
  std::unique_ptr<const VocabularyPlan> vocabulary_;  // null where the recipe has no rules for tokenizers
  std::vector<ParentInfo> parents_;
  std::vector<size_t> parent_places_;  // in parents_, by index in Parents::all
};

// Opens the parents and checks all that can be known from their headers. Every error of the recipe comes back in one
// Error (Diagnostics::ToError). options.seed and options.arithmetic win over what the recipe says. Notes and warnings
// are in problems().
Result<std::shared_ptr<const RecipeCheckpoint>> OpenRecipe(Recipe recipe, const checkpoint::OpenOptions& options);

// An Opener for references that end in .yml or .yaml, or in .yml#name: a document of that name.
std::optional<Result<std::shared_ptr<const checkpoint::Checkpoint>>> OpenRecipeReference(
    const std::string& ref, const checkpoint::OpenOptions& options);

}  // namespace sluice::merge
