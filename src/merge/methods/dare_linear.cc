// dare_linear: drop elements of each difference at random, rescale what is left, add it to the base.
//
//   d_m = x_m - b, each element kept with probability density, else 0;  d_m scaled (rescale);
//   out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m)
//
// Yu et al., "Language models are Super Mario: absorbing abilities from homologous models as a free lunch", ICML 2024,
// arXiv 2311.03099, equations 1 to 3 (theirs is rescale: density, 1 / (1 - p)).
//
// Deliberate differences from mergekit: masks come from Philox4x32-10 by tensor and model (docs/formats/mask.md), not
// from one sequential generator, so that any element can be drawn alone; f32 with one rounding at the end; `rescale:
// density` is ours.
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kRandom, .consensus = false};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

uint64_t NumDraws(const ParameterValues& model, uint64_t num_elements) {
  return MergekitDrawsOf(model, num_elements, kSettings.sparsifier);
}

}  // namespace

const Method& dare_linear() {
  static const Method method = {
      .name = "dare_linear",
      .summary = "Drop elements of each difference at random, rescale what is left, add it to the base.",
      .formula =
          "d_m = x_m - b, each element kept with probability density, else 0; then scaled (rescale)\n"
          "out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m)",
      .paper = "Yu et al., \"Language models are Super Mario\", ICML 2024, arXiv 2311.03099, equations 1 to 3.",
      .differences =
          "masks are a function of seed, tensor and model (docs/formats/mask.md); f32 throughout and one rounding "
          "at the end; `rescale: density` is an extension.",
      .parameters = TaskVectorParameters(kSettings, /*normalize=*/false, /*rescale=*/true),
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .num_draws = NumDraws,
      .casts_to_base = true,
  };
  return method;
}

}  // namespace sluice::merge::methods
