// Kinds of merges, as a sample of numbers can tell them apart, with their weights and densities: what a fit
// (merge_kind_fit.h) answers, what such a merge is called, and what it would have made of the same numbers.
//
//   kept        each candidate's difference d_k is kept or dropped at each element: all kept, kept at random with
//               probability p (DARE), or its largest magnitudes kept (TIES)
//   sum         MODEL - BASE = sum of u_k d_k over what was kept
//   consensus   the same over those of the kept that agree with the sign of the sum
//   normalised  that, divided by the sum of the weights that took part
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice::verify {

enum class MergeSum { kSum, kConsensus, kNormalised };
enum class MergeMask { kRandom, kMagnitude };

// Numbers of some elements, [candidate][element] in deltas; a run is kRunElements of them, whole runs.
struct KindSample {
  static constexpr uint64_t kRunElements = 256;
  size_t num_candidates = 0;
  uint64_t size = 0;
  std::vector<float> deltas, difference;
  std::vector<float> half_step;  // of MODEL's encoding at each element: MODEL is known to so much; 0: not known
  std::vector<uint32_t> tensor;  // by run, ascending: magnitudes are ranked within a tensor
};

struct MergeKindFit {
  MergeSum sum = MergeSum::kSum;
  MergeMask mask = MergeMask::kRandom;
  double log_likelihood = 0;  // an element, nats, of MODEL's number as it is rounded
  // By candidate: weight as a recipe has it, under DARE's rescaling where the mask is random; of a normalised sum,
  // which tells no more than their ratios, they sum to 1. Share that was kept. Standard errors, from disjoint parts of
  // the sample.
  std::vector<double> weights, weight_errors, densities, density_errors;
  double scale = 1;  // of a normalised sum: lambda
  double noise = 0;  // scale of what rounding does not explain, in root mean squares of the candidates' deltas

  // Factor of what is kept of a candidate: its weight, rescaled where the mask is random.
  double Amplitude(size_t k) const;
  bool is_all_kept() const;
};

struct MergeKindAnswer {
  std::string not_fitted;          // why there are no fits; empty where there are
  std::vector<size_t> candidates;  // that took part, in the order of the fits' weights
  std::vector<MergeKindFit> fits;  // by likelihood, best first
  uint64_t elements = 0;           // of the sample
  // Fits that the sample cannot tell from the best: their log-likelihoods differ by less than this from it, in all.
  static constexpr double kLeastEvidence = 10;
  size_t equally_good() const;
  // Of the best: "linear or task_arithmetic", "dare_linear", "ties", "dare_ties", ...; of one candidate, which has
  // nobody to agree with, "dare_linear or dare_ties".
  std::string name() const;
};

// MODEL less base as such a merge would make it of these differences, before it is rounded, with random masks of its
// own.
std::vector<float> SimulateMerge(const KindSample& sample, const MergeKindFit& fit);

// What a recipe with such masks and such a sum is called.
std::string MergeKindName(const MergeKindFit& fit);

constexpr size_t kMostKindCandidates = 10;

}  // namespace sluice::verify
