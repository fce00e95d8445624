#include "merge/task_vector_node.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <new>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "merge/float_views.h"
#include "merge/l1_fact.h"
#include "merge/magnitude_fact.h"
#include "merge/mask_key.h"

namespace sluice::merge {
namespace {

using kernels::DeltaMask;

using enum TaskVectorParameter::Place;

std::string MaskText(const TaskVectorNode::Model& model) {
  if (model.rank) return "given";
  if (model.band) return fmt::format("band {} {}", model.band->drop, model.band->keep);
  return MaskDescription(model.mask);
}

// The exact settings as text: floats by their bits.
std::string Description(const TaskVectorNode::Settings& settings, const std::vector<TaskVectorNode::Model>& models) {
  std::string text = fmt::format("task vectors {} {} {:08x}", settings.consensus, settings.normalize,
                                 std::bit_cast<uint32_t>(settings.lambda));
  for (const TaskVectorNode::Model& model : models) {
    text += fmt::format("; {:08x} {:08x} {} {} {}", std::bit_cast<uint32_t>(model.weight),
                        std::bit_cast<uint32_t>(model.scale), model.scale_by_l1, MaskText(model), model.keep);
  }
  return text;
}

struct ScratchLayout {
  uint64_t vectors, floats, copies, words, end;  // offsets in bytes
  explicit ScratchLayout(uint64_t num_models) {
    vectors = 0;
    floats = RoundUp(num_models * sizeof(kernels::TaskVector), 64);
    copies = floats + RoundUp(kernels::TaskVectorScratchFloats(num_models) * sizeof(float), 64);
    words = copies + (num_models + 2) * kCopyElements * sizeof(float);  // the base, the models, the result
    end = words + num_models * kCopyElements * sizeof(uint32_t);
  }
};

}  // namespace

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
void SetRandomMask(const BuildArgs& args, size_t ordinal, double density, TaskVectorNode::Model* model) {
  model->mask.keep_below = KeepBelow(density);
  if (model->mask.keep_below > 0xFFFFFFFFu) return;
  model->mask.kind = DeltaMask::Kind::kRandom;
  model->mask.key = MaskKey(args.seed, args.tensor_name, ordinal);
}

void SetMagnitudeMask(uint64_t keep, uint64_t num_elements, TaskVectorNode::Model* model) {
  model->keep = keep;
  if (keep < num_elements) model->mask.kind = DeltaMask::Kind::kMagnitude;
}

void SetMask(const BuildArgs& args, Sparsifier sparsifier, size_t ordinal, TaskVectorNode::Model* model) {
  const ParameterValues& values = *args.models[ordinal].parameters;
  const uint64_t num_elements = args.base->num_elements();
  const double density = values[kDensity];
  if (density >= 1 || num_elements == 0) return;
  switch (sparsifier) {
    case Sparsifier::kNone:
      return;
    case Sparsifier::kRandom:
      return SetRandomMask(args, ordinal, density, model);
    case Sparsifier::kMagnitude: {
      const uint64_t keep = MagnitudeKeeps(density, num_elements);
      SLUICE_CHECK(keep > 0);  // refused by check_tensor
      return SetMagnitudeMask(keep, num_elements, model);
    }
    case Sparsifier::kOutliers: {
      const uint64_t keep = MagnitudeKeeps(density, num_elements);
      const uint64_t drop = std::min(MagnitudeKeeps(values[kGamma], num_elements), num_elements - keep);
      if (keep == 0) return SetRandomMask(args, ordinal, 0, model);
      if (drop == 0) return SetMagnitudeMask(keep, num_elements, model);
      model->mask = {.kind = DeltaMask::Kind::kGiven, .keep_below = kMaskKeepBelow};
      model->band = {drop, keep};
      return;
    }
    case Sparsifier::kRank: {
      const uint64_t columns = args.shape.empty() ? 1 : args.shape.back();
      if (density <= 0 || columns < 2) return SetRandomMask(args, ordinal, density, model);
      model->mask = {.kind = DeltaMask::Kind::kGiven, .keep_below = kMaskKeepBelow};
      model->rank = {MaskKey(args.seed, args.tensor_name, ordinal), columns, KeepBelow(density - values[kEpsilon]),
                     KeepBelow(density + values[kEpsilon])};
      return;
    }
  }
}

}  // namespace

const graph::Node* AddTaskVectorNode(const BuildArgs& args, const TaskVectorSettings& settings) {
  SLUICE_CHECK(args.base != nullptr);
  const ParameterValues& recipe = *args.parameters;
  std::vector<TaskVectorNode::Model> models;
  std::vector<const graph::Node*> inputs = {args.base}, masks;
  for (size_t ordinal = 0; ordinal < args.models.size(); ++ordinal) {
    const ParameterValues& values = *args.models[ordinal].parameters;
    TaskVectorNode::Model model;
    model.weight = static_cast<float>(values[kWeight]);
    SetMask(args, settings.sparsifier, ordinal, &model);
    if (model.mask.kind != DeltaMask::Kind::kAll) {
      model.scale_by_l1 = recipe[kRescale] == 1;
      // Nothing is kept of a density that rounds to none: there is nothing to scale.
      const bool keeps_some = model.mask.kind != DeltaMask::Kind::kRandom || model.mask.keep_below > 0;
      if (recipe[kRescale] == kDensityWord && keeps_some) model.scale = static_cast<float>(1 / values[kDensity]);
    }
    const graph::Node* x = args.models[ordinal].node;
    inputs.push_back(x);
    if (model.rank) {
      masks.push_back(args.graph->Add(std::make_unique<RankMaskNode>(x, args.base, *model.rank)));
    }
    models.push_back(std::move(model));
  }
  inputs.insert(inputs.end(), masks.begin(), masks.end());
  const TaskVectorNode::Settings node_settings = {.consensus = settings.consensus,
                                                  .normalize = recipe[kNormalize] != 0,
                                                  .lambda = static_cast<float>(recipe[kLambda])};
  return args.graph->Add(std::make_unique<TaskVectorNode>(node_settings, std::move(models), std::move(inputs)));
}

TaskVectorNode::TaskVectorNode(const Settings& settings, std::vector<Model> models,
                               std::vector<const graph::Node*> inputs)
    : Node(Description(settings, models), quant::F32(), inputs[0]->num_elements(), inputs),
      settings_(settings),
      models_(std::move(models)) {
  size_t next_mask = models_.size() + 1;
  for (size_t m = 0; m < models_.size(); ++m) {
    const Model& model = models_[m];
    fact_of_.push_back(-1);
    mask_of_.push_back(model.rank ? next_mask++ : 0);
    std::unique_ptr<graph::Fact> fact;
    if (model.mask.kind == DeltaMask::Kind::kMagnitude) {
      fact = std::make_unique<MagnitudeFact>(inputs[m + 1], inputs[0], model.keep, model.scale_by_l1);
    } else if (model.band) {
      fact = std::make_unique<BandFact>(inputs[m + 1], inputs[0], *model.band, model.scale_by_l1);
    } else if (model.scale_by_l1 && model.rank) {
      fact = std::make_unique<L1Fact>(inputs[m + 1], inputs[0], inputs[mask_of_[m]]);
    } else if (model.scale_by_l1) {
      fact = std::make_unique<L1Fact>(inputs[m + 1], inputs[0], model.mask);
    }
    if (fact) {
      fact_of_.back() = static_cast<int>(facts().size());
      AddFact(std::move(fact));
    }
  }
  SLUICE_CHECK(inputs.size() == next_mask);
}

uint64_t TaskVectorNode::ScratchBytes() const { return ScratchLayout(models_.size()).end; }

double TaskVectorNode::NanosecondsPerElement() const {
  double nanoseconds = 0.5;
  for (const Model& model : models_) {
    nanoseconds += model.rank ? 0.6 : model.band ? 2 : model.mask.kind == DeltaMask::Kind::kRandom ? 1.2 : 0.5;
  }
  return nanoseconds;
}

void TaskVectorNode::Compute(const graph::ComputeArgs& args) const {
  const ScratchLayout layout(models_.size());
  auto* vectors = reinterpret_cast<kernels::TaskVector*>(args.scratch + layout.vectors);
  auto* copies = reinterpret_cast<float*>(args.scratch + layout.copies);
  for (size_t m = 0; m < models_.size(); ++m) {
    const Model& model = models_[m];
    auto* vector = new (&vectors[m]) kernels::TaskVector{nullptr, model.weight, model.scale, model.mask};
    if (fact_of_[m] < 0) continue;
    const graph::FactValue& value = *args.facts[fact_of_[m]];
    size_t sums = 0;
    if (model.mask.kind == DeltaMask::Kind::kMagnitude) {
      vector->mask.threshold = std::bit_cast<float>(static_cast<uint32_t>(value[0]));
      vector->mask.last_tie = static_cast<uint64_t>(value[1]);
      sums = 2;
    } else if (model.band) {
      sums = kBandSums;
    }
    if (model.scale_by_l1) vector->scale = L1Scale(value[sums], value[sums + 1]);
  }
  float* result_copy = copies + (models_.size() + 1) * kCopyElements;
  const bool out_aligned = IsFloatAligned(args.out);
  const bool whole = out_aligned && AreFloatAligned(args.in) && !HasBands();
  ForAlignedParts(args.range.size(), whole, [&](uint64_t first, uint64_t count) {
    const float* base = FloatsAt(args.in[0], first, count, copies);
    const uint64_t element = args.range.begin + first;
    for (size_t m = 0; m < models_.size(); ++m) {
      vectors[m].x = FloatsAt(args.in[m + 1], first, count, copies + (m + 1) * kCopyElements);
      if (models_[m].rank) {
        vectors[m].mask.words = reinterpret_cast<const uint32_t*>(args.in[mask_of_[m]].data) + first;
      } else if (models_[m].band) {
        auto* words = reinterpret_cast<uint32_t*>(args.scratch + layout.words) + m * kCopyElements;
        const BandMask mask = BandMaskOf(*models_[m].band, num_elements(), *args.facts[fact_of_[m]]);
        BandMaskWords(mask, element, count, vectors[m].x, base, words);
        vectors[m].mask.words = words;
      }
    }
    uint8_t* out = args.out + first * sizeof(float);
    const kernels::TaskVectorArgs kernel_args = {.base = base,
                                                 .models = {vectors, models_.size()},
                                                 .consensus = settings_.consensus,
                                                 .normalize = settings_.normalize,
                                                 .lambda = settings_.lambda,
                                                 .first_element = element,
                                                 .count = count,
                                                 .out = out_aligned ? reinterpret_cast<float*>(out) : result_copy,
                                                 .scratch = reinterpret_cast<float*>(args.scratch + layout.floats)};
    kernels::TaskVectorSum(kernel_args);
    if (!out_aligned) std::memcpy(out, result_copy, count * sizeof(float));
  });
}

bool TaskVectorNode::HasBands() const {
  return std::ranges::any_of(models_, [](const Model& m) { return m.band.has_value(); });
}

}  // namespace sluice::merge
