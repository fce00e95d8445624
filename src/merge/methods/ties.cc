// ties: trim each difference to its largest elements, elect a sign for every element, merge what agrees with it.
//
//   d_m = x_m - b, all but the k = trunc(density n) largest magnitudes of the tensor set to 0;  p_m = w_m d_m
//   s = +1 where sum_m p_m >= 0, else -1;  A = the models with p_m != 0 and sign(p_m) = s
//   mixed = sum_A p_m / sum_A w_m (normalize: false leaves the division out; an empty sum is 1);  out = b + lambda
//   mixed
//
// Yadav et al., "TIES-merging: resolving interference when merging models", NeurIPS 2023, arXiv 2306.01708, algorithm 1
// (trim, elect sign, disjoint merge).
//
// Deliberate differences from mergekit: f32 with one rounding at the end; of equal magnitudes at the threshold the
// first by index are kept, where mergekit takes what its sort happens to leave first. Exactly k are kept by both.
#include "merge/mergekit_task_vectors.h"
#include "merge/task_vector_method.h"

#include <fmt/format.h>

namespace sluice::merge::methods {
namespace {

constexpr TaskVectorSettings kSettings = {.sparsifier = Sparsifier::kMagnitude, .consensus = true};
constexpr size_t kDensity = 1;

const graph::Node* Build(const BuildArgs& args) { return AddTaskVectorNode(args, kSettings); }

const graph::Node* BuildAsMergekit(const BuildArgs& args) { return AddMergekitTaskVectors(args, kSettings); }

std::string CheckAsMergekit(const ParameterValues& model, std::span<const uint64_t> shape) {
  return CheckMergekitTensor(model, shape, kSettings);
}

std::string CheckTensor(const ParameterValues& model, uint64_t num_elements) {
  const double density = model[kDensity];
  if (num_elements == 0 || density >= 1 || MagnitudeKeeps(density, num_elements) > 0) return {};
  return fmt::format("density {} of {} elements keeps none: use {} or more", density, num_elements,
                     1 / static_cast<double>(num_elements));
}

}  // namespace

const Method& ties() {
  static const Method method = {
      .name = "ties",
      .summary = "Trim each difference to its largest elements, elect a sign, merge what agrees with it.",
      .formula =
          "d_m = x_m - b, all but the k = trunc(density n) largest magnitudes of the tensor set to 0\n"
          "p_m = w_m d_m;  s = +1 where sum_m p_m >= 0, else -1\n"
          "A = the models with p_m != 0 and sign(p_m) = s\n"
          "mixed = sum_A p_m / sum_A w_m        (normalize: false leaves the division out)\n"
          "out = b + lambda mixed",
      .paper =
          "Yadav et al., \"TIES-merging: resolving interference when merging models\", NeurIPS 2023, arXiv 2306.01708, "
          "algorithm 1.",
      .differences =
          "f32 throughout and one rounding at the end; equal magnitudes at the threshold are kept in index order.",
      .parameters = TaskVectorParameters(kSettings, /*normalize=*/true, /*rescale=*/false),
      .needs_base = true,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
      .casts_to_base = true,
      .check_tensor = CheckTensor,
      .check_as_mergekit = CheckAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
