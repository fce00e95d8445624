#include "verify/merge_kind_fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace sluice::verify {
namespace {

float RoundToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
}

struct Truth {
  MergeSum sum;
  MergeMask mask;
  std::vector<double> weights, densities;
};

struct Merge {
  KindSample sample;
  std::vector<double> coefficients;  // of a regression on each alone: the candidates are independent
};

// Candidates that differ from a base in bf16 by 1% of its root mean square, merged by the formulas of docs/methods and
// rounded to bf16.
Merge Make(const Truth& truth, uint64_t size, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const size_t k_all = truth.weights.size();
  Merge merge;
  KindSample& sample = merge.sample;
  sample.num_candidates = k_all;
  sample.size = size;
  sample.deltas.resize(k_all * size);
  for (uint64_t run = 0; run < size / KindSample::kRunElements; ++run) {
    sample.tensor.push_back(static_cast<uint32_t>(run / 16));
  }
  std::vector<float> base(size);
  for (uint64_t e = 0; e < size; ++e) {
    base[e] = RoundToBf16(static_cast<float>(0.02 * normal(random)));
    for (size_t k = 0; k < k_all; ++k) {
      const double x = static_cast<double>(base[e]) + 0.0002 * normal(random);
      sample.deltas[k * size + e] = RoundToBf16(static_cast<float>(x)) - base[e];
    }
  }
  std::vector<float> thresholds;
  for (size_t k = 0; k < k_all; ++k) {
    std::vector<float> sizes;
    for (uint64_t e = 0; e < size; ++e) sizes.push_back(std::abs(sample.deltas[k * size + e]));
    std::ranges::sort(sizes);
    const double dropped = (1 - truth.densities[k]) * static_cast<double>(size);
    thresholds.push_back(dropped < 1 ? -1 : sizes[static_cast<size_t>(dropped) - 1]);
  }
  std::vector<double> squares(k_all), products(k_all);
  for (uint64_t e = 0; e < size; ++e) {
    double up = 0, down = 0, weight_up = 0, weight_down = 0;
    for (size_t k = 0; k < k_all; ++k) {
      const float d = sample.deltas[k * size + e];
      const bool is_random = truth.mask == MergeMask::kRandom;
      if (is_random ? uniform(random) >= truth.densities[k] : !(std::abs(d) > thresholds[k])) continue;
      const double scale = is_random ? 1 / truth.densities[k] : 1;
      const double product = truth.weights[k] * static_cast<double>(d) * scale;
      (product > 0 ? up : down) += std::abs(product);
      (product > 0 ? weight_up : weight_down) += product != 0 ? truth.weights[k] : 0;
    }
    double value = up - down;
    if (truth.sum != MergeSum::kSum) value = up >= down ? up : -down;
    const double divisor = up >= down ? weight_up : weight_down;
    if (truth.sum == MergeSum::kNormalised && divisor > 0) value /= divisor;
    const float merged = RoundToBf16(base[e] + static_cast<float>(value));
    sample.difference.push_back(merged - base[e]);
    sample.half_step.push_back(std::ldexp(1.0f, (merged == 0 ? -100 : std::ilogb(merged)) - 8));
    for (size_t k = 0; k < k_all; ++k) {
      const double d = sample.deltas[k * size + e];
      squares[k] += d * d;
      products[k] += d * static_cast<double>(sample.difference.back());
    }
  }
  for (size_t k = 0; k < k_all; ++k) merge.coefficients.push_back(products[k] / squares[k]);
  return merge;
}

// The weights within 5 of their errors (of 7 degrees of freedom: 0.2% lie beyond by chance), which are small.
void ExpectRecovered(const Truth& truth, const char* name, uint32_t seed) {
  SCOPED_TRACE(name);
  const Merge merge = Make(truth, 16384, seed);
  const std::vector<MergeKindFit> fits = FitMergeKinds(merge.sample, merge.coefficients, 2);
  ASSERT_EQ(fits.size(), 6u);
  const MergeKindFit& best = fits[0];
  EXPECT_EQ(MergeKindName(best), name);
  EXPECT_GT((best.log_likelihood - fits[1].log_likelihood) * 16384, MergeKindAnswer::kLeastEvidence);
  double total = 0;
  for (const double weight : truth.weights) total += weight;
  for (size_t k = 0; k < truth.weights.size(); ++k) {
    const double weight = best.sum == MergeSum::kNormalised ? truth.weights[k] / total : truth.weights[k];
    EXPECT_NEAR(best.weights[k], weight, 5 * best.weight_errors[k] + 1e-3 * weight) << k;
    EXPECT_LT(best.weight_errors[k], 0.1 * weight) << k;
    EXPECT_NEAR(best.densities[k], truth.densities[k], 5 * best.density_errors[k] + 2e-3) << k;
    EXPECT_LT(best.density_errors[k], 0.06) << k;
  }
}

TEST(MergeKindTest, KindsWeightsAndDensitiesAreRecovered) {
  const std::vector<double> weights = {0.5, 0.2, 0.3}, densities = {0.6, 0.5, 0.3}, ones = {1, 1, 1};
  ExpectRecovered({MergeSum::kSum, MergeMask::kRandom, weights, ones}, "linear or task_arithmetic", 1);
  ExpectRecovered({MergeSum::kSum, MergeMask::kRandom, weights, densities}, "dare_linear", 2);
  ExpectRecovered({MergeSum::kConsensus, MergeMask::kRandom, weights, densities}, "dare_ties", 3);
  ExpectRecovered({MergeSum::kNormalised, MergeMask::kMagnitude, weights, densities}, "ties", 4);
  ExpectRecovered({MergeSum::kConsensus, MergeMask::kMagnitude, weights, densities}, "ties, normalize: false", 5);
}

TEST(MergeKindTest, OfOneCandidateTheConsensusCannotBeTold) {
  const Merge merge = Make({MergeSum::kSum, MergeMask::kRandom, {0.4}, {0.5}}, 8192, 6);
  MergeKindAnswer answer;
  answer.candidates = {0};
  answer.elements = merge.sample.size;
  answer.fits = FitMergeKinds(merge.sample, merge.coefficients, 1);
  EXPECT_EQ(answer.fits.size(), 2u);
  EXPECT_EQ(answer.name(), "dare_linear or dare_ties");
  EXPECT_NEAR(answer.fits[0].weights[0], 0.4, 0.02);
}

TEST(MergeKindTest, TheSameAtAnyNumberOfThreads) {
  const Merge merge = Make({MergeSum::kConsensus, MergeMask::kRandom, {0.4, 0.3}, {0.5, 0.7}}, 8192, 7);
  const std::vector<MergeKindFit> one = FitMergeKinds(merge.sample, merge.coefficients, 1),
                                  three = FitMergeKinds(merge.sample, merge.coefficients, 3);
  ASSERT_EQ(one.size(), three.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].log_likelihood, three[i].log_likelihood);
    EXPECT_EQ(one[i].weights, three[i].weights);
    EXPECT_EQ(one[i].weight_errors, three[i].weight_errors);
    EXPECT_EQ(one[i].densities, three[i].densities);
  }
}

TEST(MergeKindTest, SimulatedMergesAreOfTheirKind) {
  const Truth truth = {MergeSum::kConsensus, MergeMask::kRandom, {0.4, 0.3}, {0.5, 0.7}};
  Merge merge = Make(truth, 8192, 8);
  MergeKindFit fit;
  fit.sum = truth.sum;
  fit.mask = truth.mask;
  fit.weights = truth.weights;
  fit.densities = truth.densities;
  const std::vector<float> again = SimulateMerge(merge.sample, fit);
  double products = 0, squares = 0;
  for (uint64_t e = 0; e < 8192; ++e) {
    const double d = merge.sample.deltas[e];
    products += d * static_cast<double>(again[e]);
    squares += d * d;
  }
  // Noise of masks: about 0.5 of the coefficient over the root of 8192.
  EXPECT_NEAR(products / squares, merge.coefficients[0], 5 * 0.5 / 90.5 * 1.42);
}

}  // namespace
}  // namespace sluice::verify
