// sce: keep the positions in which the models differ most, weigh each model by how far it went, merge what agrees in
// sign.
//
//   d_m = x_m - b; v = variance over the models of d_m (divided by their number), for each position
//   select_topk < 1: d_m = 0 but at the trunc(select_topk n') positions of largest v, n' of which are not 0
//   w_m = mean over the tensor of d_m^2, divided by their sum (that sum < 1e-6: all the same)
//   s = +1 where sum_m d_m >= 0, else -1;  A = the models with d_m != 0 and sign(d_m) = s
//   out = b + sum_A w_m d_m / max(sum_A w_m, 1e-6)
//
// Wan et al., "FuseChat: knowledge fusion of chat models", arXiv 2408.07990, section 3.3 (select, calculate, erase), as
// mergekit 0.1.4 has it.
//
// Deliberate differences from mergekit: differences and sums in f64 with one rounding at the end; equal variances count
// in index order. In mergekit's arithmetic (mergekit_sce.h) one: where no position is kept mergekit writes the base
// once for each model, in a tensor of one dimension more; here it stays the base.
#include <memory>

#include "arithmetic/mergekit_sce.h"
#include "arithmetic/sce_node.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kTopk };

const graph::Node* Build(const BuildArgs& args) {
  const double select_topk = (*args.parameters)[kTopk];
  if (select_topk <= 0) return args.base;
  std::vector<const graph::Node*> inputs = {args.base};
  for (const ModelInput& model : args.models) inputs.push_back(model.node);
  return args.graph->Add(std::make_unique<arithmetic::SceNode>(inputs, select_topk));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) x.push_back(model.node);
  return arithmetic::AddMergekitSce(args.graph, arithmetic::WorkingTypeOf(args.working), (*args.parameters)[kTopk],
                                    args.base, x);
}

std::string CheckAsMergekit(const ParameterValues& /*model*/, std::span<const uint64_t> shape) {
  uint64_t num_elements = 1;
  for (const uint64_t length : shape) num_elements *= length;
  if (num_elements <= uint64_t{1} << 32) return {};
  return "has more than 2^32 elements, which mergekit's arithmetic would have to sort; use the exact one";
}

}  // namespace

const Method& sce() {
  static const Method method = {
      .name = "sce",
      .summary = "Keep where the models differ most, weigh each by how far it went, merge what agrees in sign.",
      .formula =
          "d_m = x_m - b, 0 but at the trunc(select_topk n') positions where their variance is largest,\n"
          "n' being where it is not 0        (select_topk 1: all)\n"
          "w_m = mean of d_m^2 over the tensor, divided by their sum (below 1e-6: all the same)\n"
          "s = +1 where sum_m d_m >= 0, else -1;  A = the models with d_m != 0 and sign(d_m) = s\n"
          "out = b + sum_A w_m d_m / max(sum_A w_m, 1e-6)",
      .paper = "Wan et al., \"FuseChat\", arXiv 2408.07990, section 3.3, as mergekit 0.1.4 has it.",
      .differences =
          "differences and sums in f64, one rounding at the end; equal variances count in index order. In mergekit's "
          "arithmetic the bits are its own, models in the recipe's order (there in that of a Python set, which from "
          "two "
          "on changes the sums' last bits); where no position is kept (select_topk n' below 1: a tensor that all "
          "models "
          "leave alone, or select_topk 0) mergekit writes the base once for each model, in one dimension more: here it "
          "stays the base.",
      .parameters = {{.name = "select_topk",
                      .scope = ParameterScope::kRecipe,
                      .min = 0,
                      .max = 1,
                      .default_value = 1,
                      .help = "share of the positions that is kept; 1 keeps all"},
                     {.name = "int8_mask",
                      .scope = ParameterScope::kRecipe,
                      .type = ParameterType::kBool,
                      .default_value = 0,
                      .used = false,
                      .help = "how mergekit stores masks; it changes no number"}},
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .takes_one_type = true,
      .check_as_mergekit = CheckAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
