// linear: a weighted average of models.
//
//   out = sum_m w_m x_m / sum_m w_m        (normalize: false leaves the division out)
//
// Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
// inference time", ICML 2022, arXiv 2203.05482, section 2 (uniform weights there, any here).
//
// Deliberate differences from mergekit: inputs and sums are f32 with one rounding at the end, models added in recipe
// order; weights that add up to nothing are refused where mergekit divides by zero.
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/weighted_sum_node.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kWeight, kNormalize };

float WeightOf(const ParameterValues& model) { return static_cast<float>(model[kWeight]); }

const graph::Node* Build(const BuildArgs& args) {
  std::vector<float> weights;
  std::vector<const graph::Node*> inputs;
  float sum = 0;  // f32 and in order of the models, as the weighted sum is
  for (const ModelInput& model : args.models) {
    weights.push_back(WeightOf(*model.parameters));
    inputs.push_back(model.node);
    sum += weights.back();
  }
  const bool normalize = (*args.parameters)[kNormalize] != 0;
  return args.graph->Add(
      std::make_unique<arithmetic::WeightedSumNode>(std::move(weights), normalize ? sum : 1.0f, std::move(inputs)));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  std::vector<float> weights;
  std::vector<const graph::Node*> inputs;
  for (const ModelInput& model : args.models) {
    weights.push_back(WeightOf(*model.parameters));
    inputs.push_back(model.node);
  }
  return arithmetic::AddMergekitLinear(args.graph, arithmetic::WorkingTypeOf(args.working), weights,
                                       (*args.parameters)[kNormalize] != 0, inputs);
}

std::string CheckModels(std::span<const ParameterValues> models, const ParameterValues& recipe) {
  float sum = 0;
  for (const ParameterValues& model : models) sum += WeightOf(model);
  if (recipe[kNormalize] == 0 || std::abs(sum) >= 1e-8f) return {};
  return fmt::format("the weights add up to {}, and normalize divides by that: change them, or say normalize: false",
                     sum);
}

}  // namespace

const Method& linear() {
  static const Method method = {
      .name = "linear",
      .summary = "A weighted average of models.",
      .formula = "out = sum_m w_m x_m / sum_m w_m        (normalize: false leaves the division out)",
      .paper = "Wortsman et al., \"Model soups\", ICML 2022, arXiv 2203.05482, section 2.",
      .differences = "f32 throughout and one rounding at the end; weights that add up to nothing are refused.",
      .parameters = {{.name = "weight", .help = "factor of the model; any scale where normalize is true"},
                     {.name = "normalize",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 1,
                      .help = "divide by the sum of the weights"}},
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .check_models = CheckModels,
  };
  return method;
}

}  // namespace sluice::merge::methods
