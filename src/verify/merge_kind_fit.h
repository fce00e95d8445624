// Which kind of merge a sample of numbers looks like, and with which weights and densities: a mixture fit over what the
// masks of a merge may have kept of each candidate. docs/lineage.md has the mathematics.
//
// EM by kind: the expectation is MaskLikelihood's; here are where each kind starts, the steps, and which of the kinds
// are worth more steps.
#pragma once

#include <span>
#include <vector>

#include "verify/merge_kind.h"

namespace sluice::verify {

// All kinds, best first; of one candidate sums alone. `start`: coefficients of a regression, by candidate. Not empty,
// at most kMostKindCandidates. The same at any number of threads.
std::vector<MergeKindFit> FitMergeKinds(const KindSample& sample, std::span<const double> start, int num_threads);

}  // namespace sluice::verify
