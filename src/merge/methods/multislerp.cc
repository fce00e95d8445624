// multislerp: models, or their differences from a base, averaged by direction and by length.
//
//   u_m = x_m / (|x_m| + eps), mean = sum_m w_m u_m        over the whole tensor; normalize_weights: w_m / sum w
//   out = mean / |mean| sum_m w_m |x_m|;  |mean| < eps: out = sum_m w_m x_m
//   with a base: x_m - b for x_m, and out = b + that. One model alone stays what it is.
//
// Goddard, "Multi-SLERP" (goddard.blog), as mergekit 0.1.4 has it. There the vectors are projected to the tangent space
// at the mean's direction and their weighted sum v is taken back to the sphere: mean cos |v| + v sin |v| / |v|. But at
// the direction of the weighted sum itself v is nothing, and what is left of it the arithmetic's noise: the result is
// the mean's direction.
//
// Deliberate differences from mergekit: v is left out; inner products and the sum in f64 with one rounding at the end;
// more than two models whose directions cancel out are added with their weights, as two are, where mergekit gives up.
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/combination_node.h"
#include "arithmetic/mergekit_multislerp.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kWeight, kNormalize, kEps };

double SumOfWeights(std::span<const ParameterValues> models) {
  double sum = 0;
  for (const ParameterValues& model : models) sum += model[kWeight];
  return sum;
}

void Factors(std::span<const double> weights, double eps, const arithmetic::Gram& gram, std::span<double> factors) {
  const size_t k = gram.size();
  double length = 0;
  for (size_t m = 0; m < k; ++m) {
    factors[m] = weights[m] / (gram.Norm(m) + eps);
    length += weights[m] * gram.Norm(m);
  }
  double square = 0;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j) square += factors[i] * factors[j] * gram(i, j);
  }
  const double norm = square > 0 || std::isnan(square) ? std::sqrt(square) : 0;
  for (size_t m = 0; m < k; ++m) factors[m] = norm < eps ? weights[m] : factors[m] * (length / norm);
}

const graph::Node* Build(const BuildArgs& args) {
  if (args.models.size() == 1) return args.models[0].node;
  const ParameterValues& recipe = *args.parameters;
  std::vector<double> weights;
  std::vector<const graph::Node*> x;
  double sum = 0;
  for (const ModelInput& model : args.models) {
    weights.push_back((*model.parameters)[kWeight]);
    sum += weights.back();
    x.push_back(model.node);
  }
  if (recipe[kNormalize] != 0) {
    for (double& weight : weights) weight /= sum;
  }
  const double eps = recipe[kEps];
  std::string description = fmt::format("multislerp {:016x}", std::bit_cast<uint64_t>(eps));
  for (const double weight : weights) description += fmt::format(" {:016x}", std::bit_cast<uint64_t>(weight));
  const arithmetic::Combination combination = {std::move(description),
                                               [weights, eps](const arithmetic::Gram& gram, std::span<double> factors) {
                                                 Factors(weights, eps, gram, factors);
                                               }};
  return args.graph->Add(std::make_unique<arithmetic::CombinationNode>(
      args.base, x, arithmetic::Vectors::Whole(x[0]->num_elements()), combination));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  if (args.models.size() == 1) return args.models[0].node;
  const ParameterValues& recipe = *args.parameters;
  arithmetic::MergekitMultislerp multislerp = {.type = arithmetic::WorkingTypeOf(args.working),
                                               .weights = {},
                                               .normalize = recipe[kNormalize] != 0,
                                               .eps = recipe[kEps]};
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) {
    multislerp.weights.push_back(static_cast<float>((*model.parameters)[kWeight]));
    x.push_back(model.node);
  }
  return arithmetic::AddMergekitMultislerp(args.graph, multislerp, args.base, x);
}

std::string CheckModels(std::span<const ParameterValues> models, const ParameterValues& recipe) {
  const double sum = SumOfWeights(models);
  if (recipe[kNormalize] == 0 || std::abs(sum) >= 1e-8) return {};
  return fmt::format(
      "the weights add up to {}, and normalize_weights divides by that: change them, or say normalize_weights: false",
      sum);
}

}  // namespace

const Method& multislerp() {
  static const Method method = {
      .name = "multislerp",
      .summary = "Models, or their differences from a base, averaged by direction and by length.",
      .formula =
          "u_m = x_m / (|x_m| + eps), mean = sum_m w_m u_m        (over the whole tensor)\n"
          "out = mean / |mean| sum_m w_m |x_m|\n"
          "|mean| < eps: out = sum_m w_m x_m\n"
          "with a base: x_m - b for x_m, and b + that; one model alone stays what it is",
      .paper =
          "Goddard, \"Multi-SLERP\" (goddard.blog/posts/multislerp-wow-what-a-cool-idea), as mergekit 0.1.4 has it: "
          "its step along the tangent space is nothing at the mean's own direction.",
      .differences =
          "the tangent step, nothing but rounding, is left out; inner products and the sum in f64, one rounding at the "
          "end; directions that cancel out are added with their weights whatever their number (mergekit gives up above "
          "two). --arithmetic mergekit: none, but for directions that cancel out.",
      .parameters = {{.name = "weight", .help = "share of the model"},
                     {.name = "normalize_weights",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 1,
                      .help = "divide the weights by their sum"},
                     {.name = "eps",
                      .scope = ParameterScope::kRecipe,
                      .min = 0,
                      .default_value = 1e-8,
                      .help = "lengths below it are nothing"}},
      .takes_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .check_models = CheckModels,
  };
  return method;
}

}  // namespace sluice::merge::methods
