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
  Planner(const MergekitPlanArgs& args, TensorMatch* match, Diagnostics* diagnostics)
      : args_(args), match_(*match), diagnostics_(*diagnostics) {}

  MergekitPlan Plan() {
    const checkpoint::Catalogue& catalogue = match_.catalogue;
    checkpoint::Catalogue stored;
    for (size_t i = 0; i < catalogue.size(); ++i) {
      const checkpoint::TensorInfo tensor = catalogue[i];
      const quant::Encoding encoding = PlanTensor(i, tensor);
      stored.Add(tensor.name, encoding, tensor.shape, tensor.num_elements);
    }
    stored.Sort();
    match_.catalogue = std::move(stored);
    plan_.draws.Finish();
    if (!problems_.empty()) {
      std::string text = fmt::format(
          "{}", fmt::join(problems_.begin(),
                          problems_.begin() + static_cast<int64_t>(std::min(problems_.size(), kNamed)), "; "));
      if (problems_.size() > kNamed) text += fmt::format("; and {} more", problems_.size() - kNamed);
      diagnostics_.AddError(args_.owner->mark, "mergekit's arithmetic cannot merge: " + text);
    }
    return std::move(plan_);
  }

 private:
  size_t num_models() const { return args_.models.size(); }
  uint32_t Place(size_t i, size_t input) const { return match_.places[i * (num_models() + 1) + input]; }

  // What the tensor is stored as.
  quant::Encoding PlanTensor(size_t i, const checkpoint::TensorInfo& tensor) {
    if (num_models() > 0 && Place(i, 1) == TensorMatch::kCarried) {
      plan_.working.push_back({});
      plan_.draws.Add(tensor.name, tensor.name, {});
      return tensor.encoding;
    }
    const checkpoint::TensorInfo owned = args_.owner->checkpoint->tensors()[Place(i, 0)];
    std::string_view label = args_.has_base ? owned.name : std::string_view();
    quant::Encoding working = args_.dtype;
    if (!working.valid() && args_.has_base) working = InType(tensor, owned);
    std::vector<uint64_t> draws;
    for (size_t m = 0; m < num_models(); ++m) {
      const MergedModel& model = args_.models[m];
      const checkpoint::TensorInfo input = model.checkpoint->tensors()[Place(i, m + 1)];
      label = std::max(label, input.name);
      if (!args_.dtype.valid()) {
        const quant::Encoding type = InType(tensor, input);
        if (!working.valid()) working = type;
        if (!args_.method->casts_to_base) working = Promoted(working, type);
      }
      const bool is_bad = std::ranges::any_of(model.parameters, [](double value) { return std::isnan(value); });
      draws.push_back(0);
      if (is_bad) continue;
      if (args_.method->num_draws) draws.back() = args_.method->num_draws(model.parameters, tensor.num_elements);
      if (!args_.method->check_as_mergekit) continue;
      const std::string problem = args_.method->check_as_mergekit(model.parameters, tensor.shape);
      if (!problem.empty()) problems_.push_back(fmt::format("{} of '{}': {}", tensor.name, model.reference, problem));
    }
    plan_.working.push_back(working);
    plan_.draws.Add(label, tensor.name, draws);
    return args_.out_dtype.valid() ? args_.out_dtype : working;
  }

  quant::Encoding InType(const checkpoint::TensorInfo& tensor, const checkpoint::TensorInfo& input) {
    if (IsTorchFloat(input.encoding)) return input.encoding;
    problems_.push_back(fmt::format("{} is {}: say what it is to be cast to, dtype: bfloat16, float16 or float32",
                                    tensor.name, input.encoding.name()));
    return quant::F32();
  }

  const MergekitPlanArgs& args_;
  TensorMatch& match_;
  Diagnostics& diagnostics_;
  MergekitPlan plan_;
  std::vector<std::string> problems_;
};

}  // namespace

MergekitPlan PlanMergekit(const MergekitPlanArgs& args, TensorMatch* match, Diagnostics* diagnostics) {
  return Planner(args, match, diagnostics).Plan();
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

void CheckForMergekit(const Method& method, const ParameterValues& parameters, uint64_t seed, Mark mark,
                      Diagnostics* diagnostics) {
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
  for (size_t i = 0; i < method.parameters.size() && i < parameters.size(); ++i) {
    const ParameterInfo& info = method.parameters[i];
    if (info.type != ParameterType::kBoolOrDensity || parameters[i] != kDensityWord) continue;
    diagnostics->AddError(mark,
                          fmt::format("{}: density is not mergekit's: say true or false in its arithmetic", info.name));
  }
}

}  // namespace sluice::merge
