// passthrough: one model as it is, or times a factor; with slices, layers of several models one after the other.
//
//   out = scale x
//
// Source: mergekit 0.1.4 ("frankenmerging").
//
// Deliberate differences from mergekit: one rounding at the end.
#include <memory>

#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/weighted_sum_node.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kScale };

const graph::Node* Build(const BuildArgs& args) {
  const ModelInput& model = args.models[0];
  const auto scale = static_cast<float>((*model.parameters)[kScale]);
  if (scale == 1) return model.node;
  return args.graph->Add(std::make_unique<arithmetic::WeightedSumNode>(std::vector<float>{scale}, 1.0f,
                                                                       std::vector<const graph::Node*>{model.node}));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  const ModelInput& model = args.models[0];
  const auto scale = static_cast<float>((*model.parameters)[kScale]);
  return scale == 1
             ? model.node
             : arithmetic::AddMergekitProduct(args.graph, arithmetic::WorkingTypeOf(args.working), model.node, scale);
}

}  // namespace

const Method& passthrough() {
  static const Method method = {
      .name = "passthrough",
      .summary = "One model as it is, or times a factor.",
      .formula = "out = scale x",
      .paper = "mergekit 0.1.4 (\"frankenmerging\": with slices, layers of several models one after the other).",
      .differences = "f32 throughout and one rounding at the end.",
      .parameters = {{.name = "scale", .default_value = 1, .help = "factor of every number"}},
      .min_models = 1,
      .max_models = 1,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
