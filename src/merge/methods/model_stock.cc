// model_stock: from the base towards the models' average, as far as their differences from the base agree.
//
//   d_m = x_m - b;  c = mean over pairs of cos(d_i, d_j) = d_i.d_j / max(|d_i| |d_j|, 1e-6)
//   t = N c / (1 + (N - 1) c);  out = b + t (mean_m x_m - b)        N models
//
// over the whole tensor; filter_wise: true over each of its rows (what lies along the last dimension).
//
// Jang, Yun, Han, "Model Stock: all we need is just a few fine-tuned models", ECCV 2024, arXiv 2403.19522, section 4,
// equation 2 (its one angle is here the mean over pairs, as in mergekit 0.1.4).
//
// Deliberate differences from mergekit: inner products and the sum in f64 with one rounding at the end; where the
// differences' directions add up to nothing (1 + (N - 1) c = 0) the base, not a division by zero. In mergekit's
// arithmetic (mergekit_model_stock.h) none.
#include <algorithm>
#include <memory>

#include "arithmetic/combination_node.h"
#include "arithmetic/mergekit_model_stock.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kFilterWise };

void Factors(const arithmetic::Gram& gram, std::span<double> factors) {
  const size_t n = gram.size();
  const auto count = static_cast<double>(n);
  double cosine = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      cosine += std::clamp(gram(i, j) / std::max(gram.Norm(i) * gram.Norm(j), 1e-6), -1.0, 1.0);
    }
  }
  cosine /= count * (count - 1) / 2;
  const double divisor = 1 + (count - 1) * cosine;
  const double t = divisor <= 0 ? 0 : count * cosine / divisor;
  for (double& factor : factors) factor = t / count;
}

const graph::Node* Build(const BuildArgs& args) {
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) x.push_back(model.node);
  const arithmetic::Vectors vectors = (*args.parameters)[kFilterWise] != 0
                                          ? arithmetic::Vectors::Rows(args.shape)
                                          : arithmetic::Vectors::Whole(args.base->num_elements());
  return args.graph->Add(std::make_unique<arithmetic::CombinationNode>(
      args.base, x, vectors, arithmetic::Combination{"model_stock", Factors}));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) x.push_back(model.node);
  const arithmetic::Vectors vectors = (*args.parameters)[kFilterWise] != 0
                                          ? arithmetic::Vectors::Rows(args.shape)
                                          : arithmetic::Vectors::Whole(args.base->num_elements());
  return arithmetic::AddMergekitModelStock(args.graph, arithmetic::WorkingTypeOf(args.working), vectors, args.base, x);
}

}  // namespace

const Method& model_stock() {
  static const Method method = {
      .name = "model_stock",
      .summary = "From the base towards the models' average, as far as their differences from the base agree.",
      .formula =
          "d_m = x_m - b;  c = mean over pairs of d_i.d_j / max(|d_i| |d_j|, 1e-6)\n"
          "t = N c / (1 + (N - 1) c)        (N models; over the whole tensor, or each row: filter_wise)\n"
          "out = b + t (mean_m x_m - b)",
      .paper = "Jang, Yun, Han, \"Model Stock\", ECCV 2024, arXiv 2403.19522, section 4, equation 2.",
      .differences =
          "inner products and the sum in f64, one rounding at the end; differences whose directions add up to nothing "
          "leave the base. In mergekit's arithmetic none: the bits are its own, with one thread there, and differences "
          "whose directions add up to nothing divide by zero.",
      .parameters = {{.name = "filter_wise",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 0,
                      .help = "an angle for each row, not one for the tensor"}},
      .needs_base = true,
      .min_models = 2,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .takes_one_type = true,
  };
  return method;
}

}  // namespace sluice::merge::methods
