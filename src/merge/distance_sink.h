// DistanceSink: how far the parents of a merge and its result lie from the base, measured while the merge is written,
// on numbers that pass by anyway: IngredientGroups puts what a tensor is merged of beside the tensor. Nothing is read
// for it: a parent that the method leaves out of a tensor (its weight is 0 there) is not measured there.
//
// Compared with: the base that the method takes differences from; without one, the parent that the recipe names as its
// base; without one, the first of the tensor's models.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "merge/recipe_checkpoint.h"
#include "stream/sink.h"

namespace sluice::merge {

// Sums over elements that are finite on both sides. The same at any number of threads and any tile size.
struct DistanceSums {
  double difference_squared = 0, own_squared = 0, base_squared = 0, product = 0;
  uint64_t changed = 0;   // elements that are not the base's
  uint64_t elements = 0;  // all

  void Add(const DistanceSums& other);
  // ||x - b|| / ||b||, cosine of x and b, share of elements that changed; nullopt where they are not defined.
  std::optional<double> RelativeL2() const;
  std::optional<double> Cosine() const;
  std::optional<double> Changed() const;
};

// Pairs of parents at each element where both differ from the base: all, and those whose differences have one sign.
struct SignPairs {
  uint64_t same = 0, all = 0;
  void Add(const SignPairs& other);
  std::optional<double> Agreement() const;
};

struct TensorDistances {
  std::string name;
  size_t reference = 0;              // what the others are compared with, in RecipeCheckpoint::parents()
  ParameterValues reference_values;  // empty for the base of a method that needs one
  // `changed` of the result: against the base rounded to the result's encoding.
  DistanceSums result;
  struct Parent {
    size_t parent = 0;
    ParameterValues values;  // of the method's parameters
    DistanceSums sums;
  };
  std::vector<Parent> parents;  // but the reference, in recipe order
  SignPairs signs;
};

// Groups of a recipe's tensors in an order, each with what it is merged of as further outs.
class IngredientGroups final : public stream::GroupSource {
 public:
  IngredientGroups(const RecipeCheckpoint& recipe, std::vector<uint32_t> order)
      : recipe_(recipe), order_(std::move(order)) {}
  size_t size() const override { return order_.size(); }
  std::string name(size_t group) const override;
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;

 private:
  const RecipeCheckpoint& recipe_;
  const std::vector<uint32_t> order_;
};

class DistanceSink final : public stream::Sink {
 public:
  DistanceSink(const RecipeCheckpoint& recipe, int num_threads);  // the recipe outlives it
  ~DistanceSink() override;

  // The groups of the pass that comes: what is measured. Once more where another pass comes instead.
  std::unique_ptr<stream::GroupSource> Follow(std::vector<uint32_t> order);

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return {}; }

  // After End: tensors that were measured, in the order of the groups.
  std::vector<TensorDistances> Distances() const;

 private:
  struct Tensor;
  struct Worker;
  void Measure(Tensor* tensor, const stream::Piece& piece, Worker* worker);

  const RecipeCheckpoint& recipe_;
  std::vector<uint32_t> order_;
  std::vector<std::unique_ptr<Tensor>> tensors_;  // by group, made when its first tile comes
  std::vector<std::unique_ptr<Worker>> workers_;  // by worker, made on first use
};

}  // namespace sluice::merge
