#include "merge/mergekit_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace sluice::merge {
namespace {

constexpr size_t kNamed = 3;  // tensors told by name in one message

bool IsTorchFloat(quant::Encoding encoding) {
  return encoding == quant::BF16() || encoding == quant::F16() || encoding == quant::F32();
}

// What torch computes numbers of two types in.
quant::Encoding Promoted(quant::Encoding a, quant::Encoding b) { return a == b ? a : quant::F32(); }

class Planner {
 public:
  Planner(const Method& method, quant::Encoding dtype, quant::Encoding out_dtype, MergePlan* plan,
          Diagnostics* diagnostics)
      : method_(method), dtype_(dtype), out_dtype_(out_dtype), merge_(*plan), diagnostics_(*diagnostics) {}

  MergekitPlan Plan() {
    const checkpoint::Catalogue& catalogue = merge_.catalogue;
    checkpoint::Catalogue stored;
    for (size_t i = 0; i < catalogue.size(); ++i) {
      const checkpoint::TensorInfo tensor = catalogue[i];
      stored.Add(tensor.name, PlanTensor(merge_.tensors[i], tensor), tensor.shape, tensor.num_elements);
    }
    stored.Sort();
    merge_.catalogue = std::move(stored);
    plan_.draws.Finish();
    if (!problems_.empty()) {
      std::string text = fmt::format(
          "{}", fmt::join(problems_.begin(),
                          problems_.begin() + static_cast<int64_t>(std::min(problems_.size(), kNamed)), "; "));
      if (problems_.size() > kNamed) text += fmt::format("; and {} more", problems_.size() - kNamed);
      diagnostics_.AddError(merge_.slices[0].sources[merge_.slices[0].owner].mark,
                            "mergekit's arithmetic cannot merge: " + text);
    }
    return std::move(plan_);
  }

 private:
  // What the tensor is stored as.
  quant::Encoding PlanTensor(const MergePlan::Tensor& planned, const checkpoint::TensorInfo& tensor) {
    if (planned.is_carried) {
      plan_.working.push_back({});
      plan_.draws.Add(tensor.name, tensor.name, {});
      return tensor.encoding;
    }
    const PlannedSlice& slice = merge_.slices[planned.slice];
    const double t = merge_.GradientAt(tensor.name, planned);
    std::string_view label;
    quant::Encoding working = dtype_, base_type;
    std::vector<uint64_t> draws;
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      const PlannedSource& source = slice.sources[k];
      const checkpoint::TensorInfo input = source.checkpoint->tensors()[merge_.places[planned.first_place + k]];
      label = std::max(label, input.name);
      if (!dtype_.valid()) {
        const quant::Encoding type = InType(tensor, input);
        if (source.is_base) base_type = type;
        if (method_.takes_one_type && working.valid() && working != type) {
          problems_.push_back(
              fmt::format("{} of '{}' is {}, other models' is {}: say what they are to be cast to, dtype", tensor.name,
                          source.reference, type.name(), working.name()));
        }
        working = working.valid() ? Promoted(working, type) : type;
      }
      if (source.is_base) continue;
      std::string_view missing;
      const ParameterValues values = slice.parameters.OfModel(k, input.name, t, &missing);
      draws.push_back(method_.num_draws ? method_.num_draws(values, tensor.num_elements) : 0);
      if (!method_.check_as_mergekit) continue;
      const std::string problem = method_.check_as_mergekit(values, tensor.shape);
      if (!problem.empty()) problems_.push_back(fmt::format("{} of '{}': {}", tensor.name, source.reference, problem));
    }
    if (!dtype_.valid() && base_type.valid() && method_.casts_to_base) working = base_type;
    plan_.working.push_back(working);
    plan_.draws.Add(label, tensor.name, draws);
    if (out_dtype_.valid()) return out_dtype_;
    return method_.makes_f32 ? quant::F32() : working;
  }

  quant::Encoding InType(const checkpoint::TensorInfo& tensor, const checkpoint::TensorInfo& input) {
    if (IsTorchFloat(input.encoding)) return input.encoding;
    problems_.push_back(fmt::format("{} is {}: say what it is to be cast to, dtype: bfloat16, float16 or float32",
                                    tensor.name, input.encoding.name()));
    return quant::F32();
  }

  const Method& method_;
  const quant::Encoding dtype_, out_dtype_;
  MergePlan& merge_;
  Diagnostics& diagnostics_;
  MergekitPlan plan_;
  std::vector<std::string> problems_;
};

// Whether a scope of the recipe gives the parameter the word.
bool SaysDensity(const ParameterSettings& settings, size_t parameter) {
  return parameter < settings.size() && settings[parameter] && settings[parameter]->Has(kDensityWord);
}

}  // namespace

MergekitPlan PlanMergekit(const Method& method, quant::Encoding dtype, quant::Encoding out_dtype, MergePlan* plan,
                          Diagnostics* diagnostics) {
  return Planner(method, dtype, out_dtype, plan, diagnostics).Plan();
}

const graph::Node* BuildAsMergekit(const Method& method, BuildArgs args, std::span<const uint64_t> first_draws) {
  const auto loaded = [&](const graph::Node* node) {
    return args.graph->AddCast(args.graph->AddCast(node, args.working), quant::F32());
  };
  std::vector<ModelInput> models(args.models.begin(), args.models.end());
  for (size_t m = 0; m < models.size(); ++m) {
    models[m].node = loaded(models[m].node);
    models[m].first_draw = first_draws[m];
  }
  args.models = models;
  if (args.base != nullptr) args.base = loaded(args.base);
  return method.build_as_mergekit(args);
}

void CheckForMergekit(const Recipe& recipe, uint64_t seed, Mark mark, Diagnostics* diagnostics) {
  const Method& method = *recipe.method;
  if (method.build_as_mergekit == nullptr) {
    diagnostics->AddError(
        mark, fmt::format("{} in mergekit's arithmetic is not supported yet; leave it out for exact", method.name));
  }
  if (seed > std::numeric_limits<uint32_t>::max()) {
    diagnostics->AddError(mark,
                          fmt::format("seed {} is too large for mergekit's arithmetic, which draws as torch does: "
                                      "{} at most",
                                      seed, std::numeric_limits<uint32_t>::max()));
  }
  for (size_t i = 0; i < method.parameters.size(); ++i) {
    if (method.parameters[i].type != ParameterType::kBoolOrDensity) continue;
    const bool says_density =
        SaysDensity(recipe.parameters, i) || SaysDensity(recipe.module_parameters, i) ||
        std::ranges::any_of(recipe.slices, [&](const RecipeSlice& slice) { return SaysDensity(slice.parameters, i); });
    if (!says_density) continue;
    diagnostics->AddError(mark, fmt::format("{}: density is not mergekit's: say true or false in its arithmetic",
                                            method.parameters[i].name));
  }
}

}  // namespace sluice::merge
