// How likely a sample of a merge is under one kind of it, whose masks nobody saw: the expectation of an EM step.
// merge_kind_fit.h makes the most of it; docs/lineage.md has the mathematics.
//
// Each element sums over all masks, 2^k of k candidates: what each would have made of the element, how probable that
// mask is, and how near that comes to MODEL's number as it is rounded.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/workers.h"
#include "verify/merge_kind.h"

namespace sluice::verify {

constexpr size_t kMagnitudeBins = 20;     // by rank within a tensor
constexpr double kLeastMaskShare = 1e-3;  // of what is kept or dropped: no element is impossible
constexpr double kBlurredShare = 0.02;    // of a bin beyond the threshold of magnitudes

struct MaskParameters {
  MergeSum sum = MergeSum::kSum;
  MergeMask mask = MergeMask::kRandom;
  std::vector<double> u;                                 // amplitude of what is kept; normalised: weight
  std::vector<double> density;                           // share kept
  std::vector<std::array<double, kMagnitudeBins>> kept;  // by bin of magnitude, lowest first
  double scale = 1;
  double noise = 0;

  // Makes kept[k] of density[k].
  void SpreadDensity(size_t k);
};

// Scores are derivatives of the log-likelihood by: each u, the scale, the logarithm of the noise.
struct MaskSums {
  explicit MaskSums(size_t k) : products((k + 2) * (k + 2)), scores(k + 2), kept(k), seen(k) {}

  // Of scores with each other (the upper triangle), and scores, both by probability of the mask.
  std::vector<double> products, scores;
  // Kept of those that were looked at. Of masks of magnitudes these are the elements that tell: where a candidate's
  // sign lost, its mask changes nothing, and what was assumed of it must not count as seen.
  std::vector<std::array<double, kMagnitudeBins>> kept, seen;
  double log_likelihood = 0;

  void Add(const MaskSums& other);
};

// Bins of magnitude of each candidate's differences, [candidate][element].
std::vector<uint8_t> RankMagnitudes(const KindSample& sample);

class MaskLikelihood {
 public:
  // The sample outlives it.
  MaskLikelihood(const KindSample& sample, int num_threads);

  double delta_squared() const { return delta_squared_; }  // mean over the candidates' differences
  double LeastNoise() const;
  size_t bin(size_t k, uint64_t element) const { return bins_[k * sample_.size + element]; }

  // Over these runs of the sample; the same at any number of threads.
  MaskSums Expect(std::span<const uint32_t> runs, const MaskParameters& parameters);

 private:
  const KindSample& sample_;
  Workers workers_;
  std::vector<uint8_t> bins_;  // [candidate][element]
  double delta_squared_ = 0;
};

}  // namespace sluice::verify
