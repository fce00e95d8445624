#include "merge/task_vector_node.h"

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

// The exact settings as text: floats by their bits.
std::string Description(const TaskVectorNode::Settings& settings, const std::vector<TaskVectorNode::Model>& models) {
  std::string text = fmt::format("task vectors {} {} {:08x}", settings.consensus, settings.normalize,
                                 std::bit_cast<uint32_t>(settings.lambda));
  for (const TaskVectorNode::Model& model : models) {
    text +=
        fmt::format("; {:08x} {:08x} {} {} {}", std::bit_cast<uint32_t>(model.weight),
                    std::bit_cast<uint32_t>(model.scale), model.scale_by_l1, MaskDescription(model.mask), model.keep);
  }
  return text;
}

struct ScratchLayout {
  uint64_t vectors, floats, copies, end;  // offsets in bytes
  explicit ScratchLayout(uint64_t num_models) {
    vectors = 0;
    floats = RoundUp(num_models * sizeof(kernels::TaskVector), 64);
    copies = floats + RoundUp(kernels::TaskVectorScratchFloats(num_models) * sizeof(float), 64);
    end = copies + (num_models + 2) * kCopyElements * sizeof(float);  // the base, the models, the result
  }
};

}  // namespace

std::vector<ParameterInfo> TaskVectorParameters(const TaskVectorSettings& settings, bool normalize, bool rescale) {
  const bool sparse = settings.sparsifier != Sparsifier::kNone;
  return {
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
}

uint64_t MagnitudeKeeps(double density, uint64_t num_elements) {
  return static_cast<uint64_t>(std::trunc(density * static_cast<double>(num_elements)));
}

const graph::Node* AddTaskVectorNode(const BuildArgs& args, const TaskVectorSettings& settings) {
  SLUICE_CHECK(args.base != nullptr);
  const uint64_t num_elements = args.base->num_elements();
  const ParameterValues& recipe = *args.parameters;
  const bool sparse = settings.sparsifier != Sparsifier::kNone;
  std::vector<TaskVectorNode::Model> models;
  std::vector<const graph::Node*> inputs = {args.base};
  for (size_t ordinal = 0; ordinal < args.models.size(); ++ordinal) {
    const ParameterValues& values = *args.models[ordinal].parameters;
    TaskVectorNode::Model model;
    model.weight = static_cast<float>(values[TaskVectorParameter::kWeight]);
    const double density = sparse ? values[TaskVectorParameter::kDensity] : 1;
    if (density < 1 && settings.sparsifier == Sparsifier::kRandom) {
      model.mask.keep_below = KeepBelow(density);
      if (model.mask.keep_below <= 0xFFFFFFFFu) {
        model.mask.kind = DeltaMask::Kind::kRandom;
        model.mask.key = MaskKey(args.seed, args.tensor_name, ordinal);
      }
    } else if (density < 1 && settings.sparsifier == Sparsifier::kMagnitude) {
      model.keep = MagnitudeKeeps(density, num_elements);
      if (model.keep < num_elements) model.mask.kind = DeltaMask::Kind::kMagnitude;
      SLUICE_CHECK(model.keep > 0 || num_elements == 0);  // refused by check_tensor
    }
    if (model.mask.kind != DeltaMask::Kind::kAll && num_elements > 0) {
      model.scale_by_l1 = recipe[TaskVectorParameter::kRescale] == 1;
      // Nothing is kept of a density that rounds to none: there is nothing to scale.
      const bool keeps_some = settings.sparsifier == Sparsifier::kMagnitude || model.mask.keep_below > 0;
      if (recipe[TaskVectorParameter::kRescale] == kDensityWord && keeps_some)
        model.scale = static_cast<float>(1 / density);
    }
    models.push_back(model);
    inputs.push_back(args.models[ordinal].node);
  }
  const TaskVectorNode::Settings node_settings = {.consensus = settings.consensus,
                                                  .normalize = recipe[TaskVectorParameter::kNormalize] != 0,
                                                  .lambda = static_cast<float>(recipe[TaskVectorParameter::kLambda])};
  return args.graph->Add(std::make_unique<TaskVectorNode>(node_settings, std::move(models), std::move(inputs)));
}

TaskVectorNode::TaskVectorNode(const Settings& settings, std::vector<Model> models,
                               std::vector<const graph::Node*> inputs)
    : Node(Description(settings, models), quant::F32(), inputs[0]->num_elements(), inputs),
      settings_(settings),
      models_(std::move(models)) {
  SLUICE_CHECK(inputs.size() == models_.size() + 1);
  for (size_t m = 0; m < models_.size(); ++m) {
    const Model& model = models_[m];
    fact_of_.push_back(-1);
    std::unique_ptr<graph::Fact> fact;
    if (model.mask.kind == DeltaMask::Kind::kMagnitude) {
      fact = std::make_unique<MagnitudeFact>(inputs[m + 1], inputs[0], model.keep, model.scale_by_l1);
    } else if (model.scale_by_l1) {
      fact = std::make_unique<L1Fact>(inputs[m + 1], inputs[0], model.mask);
    }
    if (fact) {
      fact_of_.back() = static_cast<int>(facts().size());
      AddFact(std::move(fact));
    }
  }
}

uint64_t TaskVectorNode::ScratchBytes() const { return ScratchLayout(models_.size()).end; }

double TaskVectorNode::NanosecondsPerElement() const {
  double nanoseconds = 0.5;
  for (const Model& model : models_) nanoseconds += model.mask.kind == DeltaMask::Kind::kRandom ? 1.2 : 0.5;
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
    }
    if (model.scale_by_l1) vector->scale = L1Scale(value[sums], value[sums + 1]);
  }
  float* result_copy = copies + (models_.size() + 1) * kCopyElements;
  const bool out_aligned = IsFloatAligned(args.out);
  ForAlignedParts(args.range.size(), out_aligned && AreFloatAligned(args.in), [&](uint64_t first, uint64_t count) {
    for (size_t m = 0; m < models_.size(); ++m) {
      vectors[m].x = FloatsAt(args.in[m + 1], first, count, copies + (m + 1) * kCopyElements);
    }
    uint8_t* out = args.out + first * sizeof(float);
    const kernels::TaskVectorArgs kernel_args = {.base = FloatsAt(args.in[0], first, count, copies),
                                                 .models = {vectors, models_.size()},
                                                 .consensus = settings_.consensus,
                                                 .normalize = settings_.normalize,
                                                 .lambda = settings_.lambda,
                                                 .first_element = args.range.begin + first,
                                                 .count = count,
                                                 .out = out_aligned ? reinterpret_cast<float*>(out) : result_copy,
                                                 .scratch = reinterpret_cast<float*>(args.scratch + layout.floats)};
    kernels::TaskVectorSum(kernel_args);
    if (!out_aligned) std::memcpy(out, result_copy, count * sizeof(float));
  });
}

}  // namespace sluice::merge
