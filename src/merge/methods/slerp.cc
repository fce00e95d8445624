// slerp: from the base to another model along the great circle between their directions.
//
//   cos = b.x / (|b| |x|), theta = acos cos        over the whole tensor; a norm under 1e-8 counts as 1
//   out = sin((1 - t) theta) / sin theta b + sin(t theta) / sin theta x
//   |cos| > 0.9995:  out = (1 - t) b + t x
//
// Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, section 3.3, with mergekit 0.1.4's limit for
// lines that are nearly one.
//
// Deliberate differences from mergekit: inner products and the sum in f64 with one rounding at the end.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/combination_node.h"
#include "arithmetic/mergekit_slerp.h"
#include "arithmetic/plain_math.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kT };

void Factors(double t, const arithmetic::Gram& gram, std::span<double> factors) {
  const auto length = [&](size_t i) { return gram.Norm(i) <= 1e-8 ? 1 : gram.Norm(i); };
  const double cosine = gram(0, 1) / (length(0) * length(1));
  if (std::abs(cosine) > 0.9995) {
    factors[0] = 1 - t;
    factors[1] = t;
    return;
  }
  const double theta = arithmetic::PlainAcos(cosine), sine = arithmetic::PlainSin(theta);
  factors[0] = arithmetic::PlainSin((1 - t) * theta) / sine;
  factors[1] = arithmetic::PlainSin(t * theta) / sine;
}

const graph::Node* Build(const BuildArgs& args) {
  const double t = (*args.parameters)[kT];
  const arithmetic::Combination combination = {
      fmt::format("slerp {:016x}", std::bit_cast<uint64_t>(t)),
      [t](const arithmetic::Gram& gram, std::span<double> factors) { Factors(t, gram, factors); }};
  return args.graph->Add(std::make_unique<arithmetic::CombinationNode>(
      nullptr, std::vector<const graph::Node*>{args.base, args.models[0].node},
      arithmetic::Vectors::Whole(args.base->num_elements()), combination));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  return arithmetic::AddMergekitSlerp(args.graph, arithmetic::WorkingTypeOf(args.working), args.base,
                                      args.models[0].node, (*args.parameters)[kT]);
}

}  // namespace

const Method& slerp() {
  static const Method method = {
      .name = "slerp",
      .summary = "From the base to another model along the great circle between their directions.",
      .formula =
          "cos = b.x / (|b| |x|), theta = acos cos        (over the whole tensor)\n"
          "out = sin((1 - t) theta) / sin theta b + sin(t theta) / sin theta x\n"
          "|cos| > 0.9995: out = (1 - t) b + t x",
      .paper =
          "Shoemake, \"Animating rotation with quaternion curves\", SIGGRAPH 1985, section 3.3, as mergekit 0.1.4 has "
          "it.",
      .differences =
          "inner products and the sum in f64, one rounding at the end. --arithmetic mergekit: none, with the arc "
          "cosine of glibc 2.36 (numpy's is the C library's).",
      .parameters = {{.name = "t",
                      .scope = ParameterScope::kRecipe,
                      .help = "how far from the base, at 0, to the other model, at 1"}},
      .needs_base = true,
      .min_models = 1,
      .max_models = 1,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
