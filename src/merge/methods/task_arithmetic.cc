// task_arithmetic: the models' differences from a base, weighted and added to it.
//
//   d_m = x_m - b;  out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m; |sum| < 1e-8:
//   by 1)
//
// Ilharco et al., "Editing models with task arithmetic", ICLR 2023, arXiv 2212.04089, section 2 (task vectors) and
// section 4 (addition).
//
// Deliberate differences from mergekit: inputs as stored, differences and sums in f32 with one rounding at the end.
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kNone, .consensus = false};

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

}  // namespace

const Method& task_arithmetic() {
  static const Method method = {
      .name = "task_arithmetic",
      .summary = "The models' differences from a base, weighted and added to it.",
      .formula =
          "d_m = x_m - b\n"
          "out = b + lambda sum_m w_m d_m        (normalize: true divides the sum by sum_m w_m)",
      .paper =
          "Ilharco et al., \"Editing models with task arithmetic\", ICLR 2023, arXiv 2212.04089, sections 2 and 4.",
      .differences = "f32 throughout and one rounding at the end; parents of another shape are refused, not skipped.",
      .parameters = TaskVectorParameters(kSettings, /*normalize=*/false, /*rescale=*/false),
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .casts_to_base = true,
  };
  return method;
}

}  // namespace sluice::merge::methods
