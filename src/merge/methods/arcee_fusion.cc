// arcee_fusion: take from another model what stands out by how far it moved, in rows whose distribution changed.
//
//   score = |x - b| KL(softmax(x's row) || softmax(b's row))        rows: what lies along the last dimension
//   t = median + 1.5 (third quartile - first quartile) of the tensor's scores
//   out = x where score >= t, else b
//
// Source: Arcee AI, as mergekit 0.1.4 has it; quantile q of n scores is element trunc(q (n - 1)) in ascending order.
//
// Deliberate differences from mergekit: the divergence in f64, without the 1e-8 that is added to every probability
// there (in f32 most of a small divergence is rounding); quantiles of all scores, where mergekit takes a random million
// of a larger tensor; x itself, not b + (x - b); one rounding at the end, to the recipe's dtype (of bfloat16 mergekit
// makes float32).
#include <memory>

#include "merge/arcee_fusion_node.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

const graph::Node* Build(const BuildArgs& args) {
  const uint64_t columns = args.shape.empty() ? 1 : args.shape.back();
  return args.graph->Add(std::make_unique<ArceeFusionNode>(args.base, args.models[0].node, columns));
}

}  // namespace

const Method& arcee_fusion() {
  static const Method method = {
      .name = "arcee_fusion",
      .summary = "Take from another model what stands out by how far it moved, where rows' distributions changed.",
      .formula =
          "score = |x - b| KL(softmax(x's row) || softmax(b's row))        (rows along the last dimension)\n"
          "t = median + 1.5 (third quartile - first quartile) of the tensor's scores\n"
          "out = x where score >= t, else b",
      .paper = "Arcee AI, as mergekit 0.1.4 has it.",
      .differences =
          "the divergence in f64, with nothing added to probabilities; quantiles of all scores (mergekit: of a random "
          "million); one rounding at the end, to the recipe's dtype (of bfloat16 mergekit makes float32).",
      .parameters = {},
      .needs_base = true,
      .min_models = 1,
      .max_models = 1,
      .build = Build,
  };
  return method;
}

}  // namespace sluice::merge::methods
