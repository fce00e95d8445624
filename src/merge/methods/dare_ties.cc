// dare_ties: drop elements of each difference at random, rescale what is left, then elect signs and merge as ties does.
//
//   d_m = x_m - b, each element kept with probability density, else 0;  d_m scaled (rescale);  p_m = w_m d_m
//   s = +1 where sum_m p_m >= 0, else -1;  A = the models with p_m != 0 and sign(p_m) = s
//   mixed = sum_A p_m (normalize: true divides by sum_A w_m);  out = b + lambda mixed
//
// Yu et al., "Language models are Super Mario: absorbing abilities from homologous models as a free lunch", ICML 2024,
// arXiv 2311.03099, equations 1 to 3, before the sign election and disjoint merge of Yadav et al., arXiv 2306.01708,
// algorithm 1.
//
// Deliberate differences from mergekit: as dare_linear.
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kRandom, .consensus = true};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

uint64_t NumDraws(const ParameterValues& model, uint64_t num_elements) {
  return MergekitDrawsOf(model, num_elements, kSettings.sparsifier);
}

}  // namespace

const Method& dare_ties() {
  static const Method method = {
      .name = "dare_ties",
      .summary = "Drop elements of each difference at random, rescale what is left, then elect signs as ties does.",
      .formula =
          "d_m = x_m - b, each element kept with probability density, else 0; then scaled (rescale)\n"
          "p_m = w_m d_m;  s = +1 where sum_m p_m >= 0, else -1\n"
          "A = the models with p_m != 0 and sign(p_m) = s\n"
          "mixed = sum_A p_m        (normalize: true divides by sum_A w_m)\n"
          "out = b + lambda mixed",
      .paper =
          "Yu et al., \"Language models are Super Mario\", ICML 2024, arXiv 2311.03099, equations 1 to 3, with the "
          "sign "
          "election of Yadav et al., arXiv 2306.01708, algorithm 1.",
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
