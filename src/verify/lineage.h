// What a model was merged from, and with which weights: the regression of MODEL - BASE on the candidates' differences
// from BASE, by tensor, by layer and overall, and what the residuals tell of the kind of merge. docs/lineage.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/lineage_plan.h"
#include "verify/lineage_sink.h"
#include "verify/merge_kind.h"
#include "verify/regression.h"

namespace sluice::verify {

struct LineageLayer {
  std::optional<uint64_t> number;  // nullopt: outside of layers
  uint64_t tensors = 0, elements = 0;
  Regression fit;
};

struct LineageTensorFit {
  std::string name;
  uint64_t elements = 0;
  Regression fit;
};

struct Lineage {
  std::string model, base;
  std::vector<std::string> candidates;
  // Regressors of all fits: the candidates, then the base itself, whose coefficient is 0 where the weights of a merge,
  // the base's own included, sum to 1.
  Regression overall;
  std::vector<LineageLayer> layers;
  std::vector<LineageTensorFit> tensors;
  std::vector<LineageGap> gaps;
  uint64_t elements = 0;       // that were compared
  uint64_t equal_to_base = 0;  // of these, where MODEL is BASE
  // Of the square of MODEL - BASE, what rounding to MODEL's own encoding makes on average; nullopt where that is not
  // known (blocks), or nothing was sampled.
  std::optional<double> rounding_share;
  // All candidates (two or more) share nine tenths of their difference from BASE: they may have another base.
  bool is_base_doubtful = false;
  // Standard deviation of a coefficient between layers, beyond what its errors explain; by candidate. nullopt: less
  // than two layers tell.
  std::vector<std::optional<double>> spread_between_layers;
  MergeKindAnswer kind;
  uint64_t bytes_read = 0, peak_bytes = 0, budget_bytes = 0;
  double seconds = 0;

  size_t num_candidates() const { return candidates.size(); }
  const Coefficient& base_itself() const { return overall.coefficients.back(); }
};

// After the pass. Without bytes, memory and seconds. `num_threads`: for the fit of the kinds.
Lineage MakeLineage(const LineagePlan& plan, const LineageSink& sink, int num_threads);

}  // namespace sluice::verify
