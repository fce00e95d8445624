#include "verify/merge_kind.h"

#include <algorithm>
#include <cmath>

#include "base/counter_rng.h"
#include "verify/mask_likelihood.h"

namespace sluice::verify {
namespace {

constexpr double kAllKept = 0.98;

}  // namespace

std::vector<float> SimulateMerge(const KindSample& sample, const MergeKindFit& fit) {
  constexpr PhiloxKey kKey = {0x6d65726b, 0x696e6421};
  const size_t num_candidates = sample.num_candidates;
  const std::vector<uint8_t> bins = RankMagnitudes(sample);
  MaskParameters parameters;
  parameters.mask = fit.mask;
  parameters.density = fit.densities;
  parameters.kept.resize(num_candidates);
  for (size_t k = 0; k < num_candidates; ++k) parameters.SpreadDensity(k);
  std::vector<float> result(sample.size);
  for (uint64_t e = 0; e < sample.size; ++e) {
    double up = 0, down = 0, weight_up = 0, weight_down = 0;
    for (size_t k = 0; k < num_candidates; ++k) {
      const uint64_t at = k * sample.size + e;
      const double density = parameters.kept[k][bins[at]];
      const uint32_t word =
          Philox4x32({static_cast<uint32_t>(e), static_cast<uint32_t>(e >> 32), static_cast<uint32_t>(k), 0}, kKey)[0];
      // What is all but certain was clamped for the fit's sake.
      const double edge = fit.mask == MergeMask::kMagnitude ? kBlurredShare : kLeastMaskShare;
      const bool is_kept = density >= 1 - edge || (density > edge && word < density * 4294967296.0);
      if (!is_kept) continue;
      const double weight = fit.Amplitude(k), product = weight * static_cast<double>(sample.deltas[at]);
      (product > 0 ? up : down) += std::abs(product);
      (product > 0 ? weight_up : weight_down) += product != 0 ? weight : 0;
    }
    double value = up - down;
    if (fit.sum != MergeSum::kSum) value = up >= down ? up : -down;
    if (fit.sum == MergeSum::kNormalised) value *= fit.scale / std::max(up >= down ? weight_up : weight_down, 1e-12);
    result[e] = static_cast<float>(value);
  }
  return result;
}

std::string MergeKindName(const MergeKindFit& fit) {
  const bool is_all_kept = fit.is_all_kept();
  const bool is_random = fit.mask == MergeMask::kRandom;
  switch (fit.sum) {
    case MergeSum::kSum:
      if (is_all_kept) return "linear or task_arithmetic";
      return is_random ? "dare_linear" : "a sum of trimmed differences";
    case MergeSum::kConsensus:
      if (is_all_kept) return "ties, normalize: false, density 1";
      return is_random ? "dare_ties" : "ties, normalize: false";
    case MergeSum::kNormalised:
      if (is_all_kept) return "ties, density 1";
      return is_random ? "dare_ties, normalize: true" : "ties";
  }
  return "";
}

double MergeKindFit::Amplitude(size_t k) const {
  return mask == MergeMask::kRandom && sum != MergeSum::kNormalised ? weights[k] / densities[k] : weights[k];
}

bool MergeKindFit::is_all_kept() const {
  return std::ranges::all_of(densities, [](double density) { return density >= kAllKept; });
}

size_t MergeKindAnswer::equally_good() const {
  size_t count = 0;
  for (const MergeKindFit& fit : fits) {
    if ((fits[0].log_likelihood - fit.log_likelihood) * static_cast<double>(elements) < kLeastEvidence) ++count;
  }
  return count;
}

std::string MergeKindAnswer::name() const {
  if (fits.empty()) return "";
  if (candidates.size() > 1) return MergeKindName(fits[0]);
  if (fits[0].is_all_kept()) return "linear, task_arithmetic or ties";
  return fits[0].mask == MergeMask::kRandom ? "dare_linear or dare_ties" : "ties or a trimmed difference";
}

}  // namespace sluice::verify
