#include "merge/task_vector_method.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/mask_key.h"
#include "arithmetic/sparse_masks.h"
#include "arithmetic/task_vector_node.h"
#include "base/check.h"

namespace sluice::merge {

using kernels::DeltaMask;

using enum TaskVectorParameter::Place;

std::vector<ParameterInfo> TaskVectorParameters(const TaskVectorSettings& settings, bool normalize, bool rescale) {
  const bool sparse = settings.sparsifier != Sparsifier::kNone;
  std::vector<ParameterInfo> parameters = {
      {.name = "weight", .used = true, .help = "factor of the model's difference from the base"},
      {.name = "density",
       .min = 0,
       .max = 1,
       .default_value = 1,
       .used = sparse,
       .help = "share of the difference's elements that is kept; 1 keeps all"},
      {.name = "normalize",
       .scope = ParameterScope::kRecipe,
       .type = ParameterType::kBool,
       .default_value = normalize,
       .help = "divide by the sum of the weights that took part"},
      {.name = "rescale",
       .scope = ParameterScope::kRecipe,
       .type = ParameterType::kBoolOrDensity,
       .default_value = rescale,
       .used = sparse,
       .help =
           "make up for what was dropped: true multiplies by the whole tensor's sum of magnitudes over that of what is "
           "kept (a second pass over the parents), `density` by 1/density (one pass)"},
      {.name = "lambda",
       .scope = ParameterScope::kRecipe,
       .default_value = 1,
       .help = "factor of the merged difference before it is added to the base"},
      {.name = "int8_mask",
       .scope = ParameterScope::kRecipe,
       .type = ParameterType::kBool,
       .default_value = 0,
       .used = false,
       .help = "how mergekit stores masks; it changes no number"},
  };
  if (settings.sparsifier == Sparsifier::kOutliers) {
    parameters.push_back({.name = "gamma",
                          .min = 0,
                          .max = 1,
                          .default_value = 0.01,
                          .help = "share of the difference's elements, the largest, that is dropped"});
  } else if (settings.sparsifier == Sparsifier::kRank) {
    parameters.push_back({.name = "epsilon",
                          .min = 0,
                          .max = 0.5,
                          .default_value = 0.15,
                          .help = "a row's smallest element is kept with probability density - epsilon, its largest "
                                  "with density + epsilon"});
  }
  return parameters;
}

uint64_t MagnitudeKeeps(double density, uint64_t num_elements) {
  return static_cast<uint64_t>(std::trunc(density * static_cast<double>(num_elements)));
}

std::string CheckRankDensities(std::span<const ParameterValues> models, const ParameterValues& /*recipe*/) {
  for (const ParameterValues& model : models) {
    const double density = model[kDensity], epsilon = model[kEpsilon];
    if (density <= 0 || density >= 1 || (density - epsilon > 0 && density + epsilon < 1)) continue;
    return fmt::format(
        "density {} with epsilon {} gives probabilities from {:.4g} to {:.4g}: they must lie between 0 and 1, so take "
        "a smaller epsilon (below {:.4g})",
        density, epsilon, density - epsilon, density + epsilon, std::min(density, 1 - density));
  }
  return {};
}

namespace {

// Drops every element with probability 1 - density.
void SetRandomMask(const BuildArgs& args, size_t ordinal, double density, arithmetic::TaskVectorNode::Model* model) {
  model->mask.keep_below = arithmetic::KeepBelow(density);
  if (model->mask.keep_below > 0xFFFFFFFFu) return;
  model->mask.kind = DeltaMask::Kind::kRandom;
  model->mask.key = arithmetic::MaskKey(args.seed, args.tensor_name, ordinal);
}

void SetMagnitudeMask(uint64_t keep, uint64_t num_elements, arithmetic::TaskVectorNode::Model* model) {
  model->keep = keep;
  if (keep < num_elements) model->mask.kind = DeltaMask::Kind::kMagnitude;
}

const graph::Node* MaskNode(const BuildArgs& args, std::unique_ptr<graph::Node> node,
                            arithmetic::TaskVectorNode::Model* model) {
  model->mask = {.kind = DeltaMask::Kind::kGiven};
  model->mask_is_input = true;
  return args.graph->Add(std::move(node));
}

// della's mask; null where a row has nothing to compare.
const graph::Node* RankMaskNode(const BuildArgs& args, size_t ordinal, arithmetic::TaskVectorNode::Model* model) {
  const ParameterValues& values = *args.models[ordinal].parameters;
  const double density = values[kDensity], epsilon = values[kEpsilon];
  const uint64_t columns = args.shape.empty() ? 1 : args.shape.back();
  if (density <= 0 || columns < 2) {
    SetRandomMask(args, ordinal, density, model);
    return nullptr;
  }
  const arithmetic::RankMask mask = {arithmetic::MaskKey(args.seed, args.tensor_name, ordinal), columns,
                                     arithmetic::KeepBelow(density - epsilon),
                                     arithmetic::KeepBelow(density + epsilon)};
  return MaskNode(args, std::make_unique<arithmetic::RankMaskNode>(args.models[ordinal].node, args.base, mask), model);
}

// Null, or the node that makes the mask.
const graph::Node* SetMask(const BuildArgs& args, Sparsifier sparsifier, size_t ordinal,
                           arithmetic::TaskVectorNode::Model* model) {
  const ParameterValues& values = *args.models[ordinal].parameters;
  const uint64_t num_elements = args.base->num_elements();
  const double density = values[kDensity];
  if (density >= 1 || num_elements == 0) return nullptr;
  switch (sparsifier) {
    case Sparsifier::kNone:
      break;
    case Sparsifier::kRandom:
      SetRandomMask(args, ordinal, density, model);
      break;
    case Sparsifier::kMagnitude: {
      const uint64_t keep = MagnitudeKeeps(density, num_elements);
      SLUICE_CHECK(keep > 0);  // refused by check_tensor
      SetMagnitudeMask(keep, num_elements, model);
      break;
    }
    case Sparsifier::kOutliers: {
      const uint64_t keep = MagnitudeKeeps(density, num_elements);
      const uint64_t drop = std::min(MagnitudeKeeps(values[kGamma], num_elements), num_elements - keep);
      if (keep == 0) {
        SetRandomMask(args, ordinal, 0, model);
      } else if (drop == 0) {
        SetMagnitudeMask(keep, num_elements, model);
      } else {
        model->mask.kind = DeltaMask::Kind::kGiven;
        model->band = {drop, keep};
      }
      break;
    }
    case Sparsifier::kRank:
      return RankMaskNode(args, ordinal, model);
  }
  return nullptr;
}

}  // namespace

const graph::Node* AddTaskVectorNode(const BuildArgs& args, const TaskVectorSettings& settings) {
  SLUICE_CHECK(args.base != nullptr);
  const ParameterValues& recipe = *args.parameters;
  std::vector<arithmetic::TaskVectorNode::Model> models;
  std::vector<const graph::Node*> inputs = {args.base}, masks;
  for (size_t ordinal = 0; ordinal < args.models.size(); ++ordinal) {
    const ParameterValues& values = *args.models[ordinal].parameters;
    arithmetic::TaskVectorNode::Model model;
    model.weight = static_cast<float>(values[kWeight]);
    const graph::Node* mask = SetMask(args, settings.sparsifier, ordinal, &model);
    if (model.mask.kind != DeltaMask::Kind::kAll) {
      model.scale_by_l1 = recipe[kRescale] == 1;
      // Nothing is kept of a density that rounds to none: there is nothing to scale.
      const bool keeps_some = model.mask.kind != DeltaMask::Kind::kRandom || model.mask.keep_below > 0;
      if (recipe[kRescale] == kDensityWord && keeps_some) model.scale = static_cast<float>(1 / values[kDensity]);
    }
    if (model.mask.kind == DeltaMask::Kind::kRandom && model.scale_by_l1 && model.mask.keep_below > 0) {
      // The scale's fact looks at it too.
      const DeltaMask drawn = model.mask;
      mask = MaskNode(
          args, std::make_unique<arithmetic::RandomMaskNode>(drawn.key, drawn.keep_below, args.base->num_elements()),
          &model);
    }
    inputs.push_back(args.models[ordinal].node);
    if (mask != nullptr) masks.push_back(mask);
    models.push_back(std::move(model));
  }
  inputs.insert(inputs.end(), masks.begin(), masks.end());
  const arithmetic::TaskVectorNode::Settings node_settings = {.consensus = settings.consensus,
                                                              .normalize = recipe[kNormalize] != 0,
                                                              .lambda = static_cast<float>(recipe[kLambda])};
  return args.graph->Add(
      std::make_unique<arithmetic::TaskVectorNode>(node_settings, std::move(models), std::move(inputs)));
}

}  // namespace sluice::merge
