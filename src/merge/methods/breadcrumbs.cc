// breadcrumbs: drop the largest and the smallest elements of each difference, add what is left to the base.
//
//   d_m = x_m - b, magnitudes in order over the whole tensor (n elements): the trunc(gamma n) largest set to 0, the
//   trunc(density n) that follow kept, the rest set to 0; where that is more than n, fewer of the largest
//   density >= 1: all kept;  then scaled (rescale);  p_m = w_m d_m
//   out = b + lambda sum_m p_m        (normalize: true divides the sum by sum_m w_m; |sum| < 1e-8: by 1)
//
// Davari, Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024, arXiv
// 2312.06795, section 3.
//
// Deliberate differences from mergekit: f32 with one rounding at the end; equal magnitudes count in index order; where
// trunc(gamma n) is 0 nothing is dropped at the top (in mergekit the whole difference is lost: an empty slice).
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kOutliers, .consensus = false};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

std::string CheckAsMergekit(const ParameterValues& model, std::span<const uint64_t> shape) {
  return CheckMergekitTensor(model, shape, kSettings);
}

}  // namespace

const Method& breadcrumbs() {
  static const Method method = {
      .name = "breadcrumbs",
      .summary = "Drop the largest and the smallest elements of each difference, add the rest to the base.",
      .formula =
          "d_m = x_m - b, its trunc(gamma n) largest magnitudes set to 0, the trunc(density n) that follow kept, the\n"
          "rest set to 0; then scaled (rescale)\n"
          "out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m)",
      .paper = "Davari, Belilovsky, \"Model breadcrumbs\", ECCV 2024, arXiv 2312.06795, section 3.",
      .differences =
          "f32 throughout and one rounding at the end; equal magnitudes count in index order; a tensor so small that "
          "trunc(gamma n) is 0 loses none of its largest elements (in mergekit, its whole difference).",
      .parameters = TaskVectorParameters(kSettings, /*normalize=*/false, /*rescale=*/false),
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .casts_to_base = true,
      .check_as_mergekit = CheckAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
