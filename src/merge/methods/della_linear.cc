// della_linear: drop elements of each difference at random, small ones of a row sooner, rescale what is left, add it to
// the base.
//
//   d_m = x_m - b; an element is kept with probability density - epsilon + 2 epsilon r, r its rank by magnitude in its
//   row, 0 for the smallest and 1 for the largest; a row is what lies along the last dimension, a vector is one row
//   density >= 1: all kept, 0: none;  then scaled (rescale);  p_m = w_m d_m
//   out = b + lambda sum_m p_m        (normalize: true divides the sum by sum_m w_m; |sum| < 1e-8: by 1)
//
// Deep, Bhardwaj, Poria, "DELLA-Merging: reducing interference in model merging through magnitude-based sampling",
// arXiv 2406.11617, section 3 (MagPrune).
//
// Deliberate differences from mergekit: masks are a function of seed, tensor and model, and a rank is not computed but
// drawn, by comparing an element with another one of its row (merge/sparse_masks.h): each element is kept with exactly
// the probability above, in bounded memory; f32 with one rounding at the end; of tensors with three or more dimensions
// rows lie along the last (mergekit: the second); `rescale: density` (an extension) multiplies by 1 / density, whatever
// the rank.
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kRank, .consensus = false};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

uint64_t NumDraws(const ParameterValues& model, uint64_t num_elements) {
  return MergekitDrawsOf(model, num_elements, kSettings.sparsifier);
}

std::string CheckAsMergekit(const ParameterValues& model, std::span<const uint64_t> shape) {
  return CheckMergekitTensor(model, shape, kSettings);
}

}  // namespace

const Method& della_linear() {
  static const Method method = {
      .name = "della_linear",
      .summary = "Drop elements of each difference at random, small ones sooner, rescale the rest, add it to the base.",
      .formula =
          "d_m = x_m - b, an element kept with probability density - epsilon + 2 epsilon r, r its rank by magnitude\n"
          "in its row, 0 to 1; then scaled (rescale)\n"
          "out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m)",
      .paper = "Deep, Bhardwaj, Poria, \"DELLA-Merging\", arXiv 2406.11617, section 3.",
      .differences =
          "masks are a function of seed, tensor and model, ranks drawn by comparing elements of a row "
          "(docs/formats/mask.md), each element with exactly the probability above; f32 throughout and one rounding at "
          "the end; rows lie along the last dimension (mergekit: the second); `rescale: density` is an extension.",
      .parameters = TaskVectorParameters(kSettings, /*normalize=*/false, /*rescale=*/true),
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .num_draws = NumDraws,
      .casts_to_base = true,
      .check_as_mergekit = CheckAsMergekit,
      .check_models = CheckRankDensities,
  };
  return method;
}

}  // namespace sluice::merge::methods
