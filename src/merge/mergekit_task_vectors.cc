#include "merge/mergekit_task_vectors.h"

#include <cmath>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "arithmetic/mergekit_masks.h"
#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/mergekit_rescale.h"
#include "arithmetic/order_fact.h"
#include "base/check.h"

namespace sluice::merge {
namespace {

// As Python's int(): towards zero.
uint64_t Share(double share, uint64_t num_elements) {
  return static_cast<uint64_t>(std::trunc(share * static_cast<double>(num_elements)));
}

// The magnitudes between the smallest and the largest that fall. A top of none makes mergekit's slice [bottom : -0],
// which is empty, and drops the whole delta.
arithmetic::OrderRange WithoutOutliers(double density, double gamma, uint64_t num_elements) {
  const uint64_t kept = Share(density, num_elements);
  uint64_t top = Share(gamma, num_elements);
  if (kept + top > num_elements) top = num_elements - kept;
  const uint64_t bottom = num_elements - kept - top;
  if (top == 0) return {.descending = false, .first = 0, .last = 0};
  return {.descending = false, .first = bottom, .last = num_elements - top};
}

uint64_t Columns(std::span<const uint64_t> shape) { return shape.empty() ? 1 : shape.back(); }

class Sparsifying {
 public:
  Sparsifying(const BuildArgs& args, const TaskVectorSettings& settings)
      : args_(args),
        settings_(settings),
        type_(arithmetic::WorkingTypeOf(args.working)),
        rescale_((*args.parameters)[TaskVectorParameter::kRescale] != 0) {}

  const graph::Node* Apply(const ModelInput& model, const graph::Node* delta) const {
    const double density = (*model.parameters)[TaskVectorParameter::kDensity];
    const uint64_t num_elements = delta->num_elements();
    if (density >= 1 || num_elements == 0) return delta;
    const arithmetic::MergekitDraws draws = {static_cast<uint32_t>(args_.seed), model.first_draw};
    switch (settings_.sparsifier) {
      case Sparsifier::kNone:
        return delta;
      case Sparsifier::kMagnitude:
        return arithmetic::AddKeptInOrder(args_.graph, type_, {true, 0, Share(density, num_elements)}, rescale_, delta);
      case Sparsifier::kOutliers:
        return arithmetic::AddKeptInOrder(
            args_.graph, type_,
            WithoutOutliers(density, (*model.parameters)[TaskVectorParameter::kGamma], num_elements), rescale_, delta);
      case Sparsifier::kRandom:
        return Rescaled(delta, arithmetic::AddRandomMask(args_.graph, type_, density, draws, delta));
      case Sparsifier::kRank: {
        if (density <= 0) return arithmetic::AddMergekitProduct(args_.graph, arithmetic::WorkingType::kF32, delta, 0);
        const double epsilon = (*model.parameters)[TaskVectorParameter::kEpsilon];
        return Rescaled(delta, arithmetic::AddMagpruneMask(args_.graph, type_, density, epsilon, Columns(args_.shape),
                                                           draws, delta));
      }
    }
    SLUICE_CHECK(false);
  }

 private:
  const graph::Node* Rescaled(const graph::Node* delta, const graph::Node* masked) const {
    return rescale_ ? arithmetic::AddMergekitRescale(args_.graph, type_, delta, masked) : masked;
  }

  const BuildArgs& args_;
  const TaskVectorSettings& settings_;
  const arithmetic::WorkingType type_;
  const bool rescale_;
};

}  // namespace

const graph::Node* AddMergekitTaskVectors(const BuildArgs& args, const TaskVectorSettings& settings) {
  SLUICE_CHECK(args.base != nullptr);
  const ParameterValues& recipe = *args.parameters;
  const Sparsifying sparsifying(args, settings);
  arithmetic::MergekitMix mix = {.type = arithmetic::WorkingTypeOf(args.working),
                                 .weights = {},
                                 .consensus = settings.consensus,
                                 .normalize = recipe[TaskVectorParameter::kNormalize] != 0,
                                 .lambda = recipe[TaskVectorParameter::kLambda]};
  std::vector<const graph::Node*> deltas;
  for (const ModelInput& model : args.models) {
    mix.weights.push_back(static_cast<float>((*model.parameters)[TaskVectorParameter::kWeight]));
    deltas.push_back(
        sparsifying.Apply(model, arithmetic::AddMergekitDelta(args.graph, mix.type, model.node, args.base)));
  }
  return arithmetic::AddMergekitMix(args.graph, mix, args.base, deltas);
}

uint64_t MergekitDrawsOf(const ParameterValues& model, uint64_t num_elements, Sparsifier sparsifier) {
  const double density = model[TaskVectorParameter::kDensity];
  if (density >= 1) return 0;
  if (sparsifier == Sparsifier::kRandom) return num_elements;
  return sparsifier == Sparsifier::kRank && density > 0 ? num_elements : 0;
}

std::string CheckMergekitTensor(const ParameterValues& model, std::span<const uint64_t> shape,
                                const TaskVectorSettings& settings) {
  const double density = model[TaskVectorParameter::kDensity];
  if (density >= 1) return {};
  const uint64_t num_elements = std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
  switch (settings.sparsifier) {
    case Sparsifier::kNone:
    case Sparsifier::kRandom:
      return {};
    case Sparsifier::kMagnitude:
    case Sparsifier::kOutliers:
      if (num_elements <= uint64_t{1} << 32) return {};
      return "has more than 2^32 elements, which mergekit's arithmetic would have to sort; use the exact one";
    case Sparsifier::kRank: {
      if (density <= 0) return {};
      if (shape.size() > 2) {
        return fmt::format("has {} dimensions, of which mergekit ranks the second; use the exact arithmetic",
                           shape.size());
      }
      if (num_elements > 0 && Columns(shape) < 2) return "has rows of one element, which mergekit cannot rank";
      const double epsilon = model[TaskVectorParameter::kEpsilon];
      if (density + epsilon < 1 && density - epsilon > 0) return {};
      return fmt::format("density {} with epsilon {}: density +- epsilon must lie between 0 and 1", density, epsilon);
    }
  }
  SLUICE_CHECK(false);
}

}  // namespace sluice::merge
