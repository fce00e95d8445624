// nuslerp: two models, or their differences from a base, along the great circle between their directions, with weights.
//
//   t = w2 / (w1 + w2)        (1/2 where |w1 + w2| < 1e-6)
//   cos = x1.x2 / (max(|x1|, 1e-7) max(|x2|, 1e-7)), theta = acos cos
//   out = sin((1 - t) theta) / sin theta x1 + sin(t theta) / sin theta x2;  |sin theta| < 1e-8: (1 - t) x1 + t x2
//   with a base: x_m - b for x_m, and out = b + that
//
// over the whole tensor as one vector; nuslerp_flatten: false over each of its rows (what lies along the last
// dimension); with nuslerp_row_wise: true over each of its columns.
//
// Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, section 3.3, as mergekit 0.1.4 has it.
//
// Deliberate differences from mergekit: inner products and the sum in f64 with one rounding at the end, so that angles
// below 3e-4 are told from none; of tensors with three or more dimensions, columns lie along all but the last
// (mergekit: along the first).
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/combination_node.h"
#include "arithmetic/mergekit_nuslerp.h"
#include "arithmetic/plain_math.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kWeight, kFlatten, kRowWise };

void Factors(double t, const arithmetic::Gram& gram, std::span<double> factors) {
  const auto length = [&](size_t i) { return gram.Norm(i) <= 1e-7 ? 1e-7 : gram.Norm(i); };  // a NaN stays
  const double cosine = gram(0, 1) / (length(0) * length(1));
  const double theta = arithmetic::PlainAcos(std::clamp(cosine, -1.0, 1.0)), sine = arithmetic::PlainSin(theta);
  if (std::abs(sine) < 1e-8) {
    factors[0] = 1 - t;
    factors[1] = t;
    return;
  }
  factors[0] = arithmetic::PlainSin((1 - t) * theta) / sine;
  factors[1] = arithmetic::PlainSin(t * theta) / sine;
}

double ShareOfSecond(const BuildArgs& args) {
  const double first = (*args.models[0].parameters)[kWeight], second = (*args.models[1].parameters)[kWeight];
  return std::abs(first + second) < 1e-6 ? 0.5 : second / (first + second);
}

const graph::Node* Build(const BuildArgs& args) {
  const double t = ShareOfSecond(args);
  const arithmetic::Combination combination = {
      fmt::format("nuslerp {:016x}", std::bit_cast<uint64_t>(t)),
      [t](const arithmetic::Gram& gram, std::span<double> factors) { Factors(t, gram, factors); }};
  const ParameterValues& recipe = *args.parameters;
  const arithmetic::Vectors vectors = recipe[kFlatten] != 0
                                          ? arithmetic::Vectors::Whole(args.models[0].node->num_elements())
                                      : recipe[kRowWise] != 0 ? arithmetic::Vectors::Columns(args.shape)
                                                              : arithmetic::Vectors::Rows(args.shape);
  return args.graph->Add(std::make_unique<arithmetic::CombinationNode>(
      args.base, std::vector<const graph::Node*>{args.models[0].node, args.models[1].node}, vectors, combination));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  using Kind = arithmetic::MergekitNuslerp::Vectors;
  const ParameterValues& recipe = *args.parameters;
  const arithmetic::MergekitNuslerp nuslerp = {.type = arithmetic::WorkingTypeOf(args.working),
                                               .t = ShareOfSecond(args),
                                               .vectors = recipe[kFlatten] != 0   ? Kind::kWhole
                                                          : recipe[kRowWise] != 0 ? Kind::kColumns
                                                                                  : Kind::kRows};
  return arithmetic::AddMergekitNuslerp(args.graph, nuslerp, args.base, args.models[0].node, args.models[1].node,
                                        args.shape);
}

}  // namespace

const Method& nuslerp() {
  static const Method method = {
      .name = "nuslerp",
      .summary = "Two models, or their differences from a base, along the great circle between their directions.",
      .formula =
          "t = w2 / (w1 + w2)        (1/2 where that sum is nothing)\n"
          "cos = x1.x2 / (|x1| |x2|), theta = acos cos\n"
          "out = sin((1 - t) theta) / sin theta x1 + sin(t theta) / sin theta x2\n"
          "sin theta < 1e-8: out = (1 - t) x1 + t x2\n"
          "with a base: x_m - b for x_m, and b + that\n"
          "over the whole tensor, or each row (nuslerp_flatten: false), or each column (and nuslerp_row_wise: true)",
      .paper =
          "Shoemake, \"Animating rotation with quaternion curves\", SIGGRAPH 1985, section 3.3, as mergekit 0.1.4 has "
          "it.",
      .differences =
          "inner products and the sum in f64, one rounding at the end; of tensors with three or more dimensions, "
          "columns lie along all but the last. --arithmetic mergekit: none in bf16 and f16; in f32 the arc cosine, "
          "which "
          "torch has from MKL, differs by one unit in the last place for up to 2 of 1,000 angles, and then the result "
          "by "
          "up to 2^-20 of its two parts. There parallel vectors are NaN in f16, as mergekit has them.",
      .parameters = {{.name = "weight", .help = "share of the model; any scale"},
                     {.name = "nuslerp_flatten",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 1,
                      .help = "the whole tensor as one vector"},
                     {.name = "nuslerp_row_wise",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 0,
                      .help = "with nuslerp_flatten: false, vectors are columns (mergekit's name), else rows"}},
      .takes_base = true,
      .min_models = 2,
      .max_models = 2,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
