// breadcrumbs_ties: drop the largest and the smallest elements of each difference, then elect signs and merge as ties
// does.
//
//   d_m = x_m - b, magnitudes in order over the whole tensor (n elements): the trunc(gamma n) largest set to 0, the
//   trunc(density n) that follow kept, the rest set to 0; where that is more than n, fewer of the largest
//   density >= 1: all kept;  then scaled (rescale);  p_m = w_m d_m
//   s = +1 where sum_m p_m >= 0, else -1;  A = the models with p_m != 0 and sign(p_m) = s
//   mixed = sum_A p_m (normalize: true divides by sum_A w_m);  out = b + lambda mixed
//
// Davari, Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024, arXiv
// 2312.06795, section 3, with the sign election of Yadav et al., arXiv 2306.01708, algorithm 1.
//
// Deliberate differences from mergekit: f32 with one rounding at the end; equal magnitudes count in index order; where
// trunc(gamma n) is 0 nothing is dropped at the top (in mergekit the whole difference is lost: an empty slice).
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kOutliers, .consensus = true};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

std::string CheckAsMergekit(const ParameterValues& model, std::span<const uint64_t> shape) {
  return CheckMergekitTensor(model, shape, kSettings);
}

}  // namespace

const Method& breadcrumbs_ties() {
  static const Method method = {
      .name = "breadcrumbs_ties",
      .summary = "Drop the largest and the smallest elements of each difference, elect signs as ties does.",
      .formula =
          "d_m = x_m - b, its trunc(gamma n) largest magnitudes set to 0, the trunc(density n) that follow kept, the\n"
          "rest set to 0; then scaled (rescale)\n"
          "p_m = w_m d_m;  s = +1 where sum_m p_m >= 0, else -1\n"
          "A = the models with p_m != 0 and sign(p_m) = s\n"
          "mixed = sum_A p_m        (normalize: true divides by sum_A w_m)\n"
          "out = b + lambda mixed",
      .paper =
          "Davari, Belilovsky, \"Model breadcrumbs\", ECCV 2024, arXiv 2312.06795, section 3, with the sign election "
          "of Yadav et al., arXiv 2306.01708, algorithm 1.",
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
