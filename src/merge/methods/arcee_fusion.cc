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
// makes float32). In mergekit's arithmetic (mergekit_arcee_fusion.h) the last bit of a logarithm.
#include <memory>

#include "arithmetic/arcee_fusion_node.h"
#include "arithmetic/mergekit_arcee_fusion.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

const graph::Node* Build(const BuildArgs& args) {
  const uint64_t columns = args.shape.empty() ? 1 : args.shape.back();
  return args.graph->Add(std::make_unique<arithmetic::ArceeFusionNode>(args.base, args.models[0].node, columns));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  const uint64_t columns = args.shape.empty() ? 1 : args.shape.back();
  return arithmetic::AddMergekitArceeFusion(args.graph, arithmetic::WorkingTypeOf(args.working), columns,
                                            {static_cast<uint32_t>(args.seed), args.models[0].first_draw}, args.base,
                                            args.models[0].node);
}

uint64_t NumDraws(const ParameterValues& /*model*/, uint64_t num_elements) {
  return arithmetic::MergekitFusionDraws(num_elements);
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
          "million); one rounding at the end, to the recipe's dtype (of bfloat16 mergekit makes float32). In "
          "mergekit's "
          "arithmetic the bits are its own, written as float32, in bfloat16 and float16. In float32 each logarithm is "
          "the "
          "nearest number, where MKL's may be the next: a row's divergence is then within D = 1.04e-5 sum p |log(p / "
          "q)| "
          "of mergekit's, and elements whose score is within 5 max |x - b| (D + 2^-21 KL) of the threshold may take "
          "their whole difference or none of it; all others have its bits. In rows of 16-bit numbers whose length is "
          "no multiple "
          "of "
          "8, exp of the last ones is the nearest number, where the C library's may in rare cases be the next.",
      .parameters = {},
      .needs_base = true,
      .min_models = 1,
      .max_models = 1,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .num_draws = NumDraws,
      .takes_one_type = true,
      .makes_f32 = true,
  };
  return method;
}

}  // namespace sluice::merge::methods
