#include "verify/sample_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace sluice::verify {
namespace {

constexpr int kBisections = 200;

// P(Binomial(n, p) <= k), 0 < p < 1: its largest term first, the others by their ratios.
double BinomialTail(uint64_t k, uint64_t n, double p) {
  const auto N = static_cast<double>(n);
  const double mean = N * p;
  const auto top = static_cast<uint64_t>(std::min(static_cast<double>(k), std::floor(mean)));
  const auto t = static_cast<double>(top);
  const double log_term =
      std::lgamma(N + 1) - std::lgamma(t + 1) - std::lgamma(N - t + 1) + t * std::log(p) + (N - t) * std::log1p(-p);
  const double odds = p / (1 - p);
  double sum = 1, term = 1;
  for (uint64_t i = top; i > 0 && term > 1e-20; --i) {
    term *= static_cast<double>(i) / static_cast<double>(n - i + 1) / odds;
    sum += term;
  }
  term = 1;
  for (uint64_t i = top; i < k && term > 1e-20; ++i) {
    term *= static_cast<double>(n - i) / static_cast<double>(i + 1) * odds;
    sum += term;
  }
  return std::min(1.0, std::exp(log_term) * sum);
}

// Var of sum_h N_h mean(u_h), from a number u of each drawn block, without replacement. Strata with one block drawn of
// several tell nothing of their own spread: they are collapsed, which counts what lies between them too and so is never
// too small on average (Cochran, Sampling Techniques, 5A.12). nullopt where there is only one such stratum.
class StratifiedVariance {
 public:
  void AddStratum(uint64_t num_blocks, std::span<const double> u) {
    const auto n = static_cast<double>(u.size()), N = static_cast<double>(num_blocks);
    if (u.empty() || u.size() == num_blocks) return;
    if (u.size() == 1) {
      single_.push_back(N * u[0]);
      return;
    }
    double mean = 0, squares = 0;
    for (const double value : u) mean += value / n;
    for (const double value : u) squares += (value - mean) * (value - mean);
    variance_ += N * N * (1 - n / N) * squares / (n - 1) / n;
  }
  std::optional<double> Get() const {
    if (single_.size() == 1) return std::nullopt;
    double variance = variance_;
    if (!single_.empty()) {
      const auto groups = static_cast<double>(single_.size());
      double mean = 0, squares = 0;
      for (const double value : single_) mean += value / groups;
      for (const double value : single_) squares += (value - mean) * (value - mean);
      variance += groups / (groups - 1) * squares;
    }
    return variance;
  }

 private:
  double variance_ = 0;
  std::vector<double> single_;
};

// Elements that a drawn element stands for.
double WeightOf(const StratumFacts& stratum) {
  uint64_t drawn = 0;
  for (const BlockComparison& block : stratum.blocks) drawn += block.elements;
  return drawn == 0 ? 0 : static_cast<double>(stratum.num_elements) / static_cast<double>(drawn);
}

template <class Of>  // a number of a block
double Total(std::span<const StratumFacts> strata, Of of) {
  double total = 0;
  for (const StratumFacts& stratum : strata) {
    double sum = 0;
    for (const BlockComparison& block : stratum.blocks) sum += of(block);
    total += WeightOf(stratum) * sum;
  }
  return total;
}

// An estimate whose error is, to first order, the sum over strata of N_h times the error of the mean of `residual`.
template <class Of>
Estimate WithMargin(double value, std::span<const StratumFacts> strata, double z, Of residual) {
  StratifiedVariance variance;
  std::vector<double> u;
  for (const StratumFacts& stratum : strata) {
    u.clear();
    for (const BlockComparison& block : stratum.blocks) u.push_back(residual(block));
    variance.AddStratum(stratum.num_blocks, u);
  }
  Estimate estimate{value, {}};
  if (const std::optional<double> found = variance.Get()) estimate.margin = z * std::sqrt(*found);
  return estimate;
}

SideStatistics DescribeSide(std::span<const StratumFacts> strata, double z, BlockMoments BlockComparison::*side) {
  SideStatistics found;
  const double count = Total(strata, [&](const BlockComparison& x) { return static_cast<double>((x.*side).finite); });
  bool any = false;
  for (const StratumFacts& stratum : strata) {
    for (const BlockComparison& block : stratum.blocks) {
      const BlockMoments& moments = block.*side;
      found.nan += moments.nan;
      found.infinite += moments.infinite;
      if (moments.finite == 0) continue;
      found.least = any ? std::min(found.least, moments.least) : moments.least;
      found.most = any ? std::max(found.most, moments.most) : moments.most;
      any = true;
    }
  }
  if (count == 0) return found;
  const double mean = Total(strata, [&](const BlockComparison& x) { return (x.*side).sum; }) / count;
  const double second = Total(strata, [&](const BlockComparison& x) { return (x.*side).sum_squares; }) / count;
  const double deviation = std::sqrt(std::max(0.0, second - mean * mean));
  found.mean = WithMargin(mean, strata, z, [&](const BlockComparison& x) {
    const BlockMoments& m = x.*side;
    return (m.sum - mean * static_cast<double>(m.finite)) / count;
  });
  found.deviation = WithMargin(deviation, strata, z, [&](const BlockComparison& x) {
    if (deviation == 0) return 0.0;
    const BlockMoments& m = x.*side;
    // d sqrt(Q/F - (S/F)^2), Q, S and F the totals of squares, numbers and ones.
    return (m.sum_squares - 2 * mean * m.sum - (second - 2 * mean * mean) * static_cast<double>(m.finite)) /
           (2 * deviation * count);
  });
  return found;
}

}  // namespace

double TwoSidedNormal(double confidence) {
  double low = 0, high = 40;
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(middle / std::sqrt(2.0)) > 1 - confidence ? low : high) = middle;
  }
  return high;
}

double ClopperPearsonUpper(uint64_t k, uint64_t n, double confidence) {
  if (k >= n) return 1;
  if (k == 0) return -std::expm1(std::log1p(-confidence) / static_cast<double>(n));
  double low = static_cast<double>(k) / static_cast<double>(n), high = 1;
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    if (middle >= 1 || middle == low) break;
    (BinomialTail(k, n, middle) > 1 - confidence ? low : high) = middle;
  }
  return high;
}

double UpperShare(uint64_t k, uint64_t n, double draws, double confidence) {
  if (n == 0 || draws <= 0) return 1;
  if (k == 0) return -std::expm1(std::log1p(-confidence) / draws);
  const double p = ClopperPearsonUpper(k, n, confidence);
  // Hoeffding's comparison with a binomial holds where the mean is one above k.
  if (static_cast<double>(n) * p < static_cast<double>(k) + 1) return 1;
  return std::min(1.0, p * static_cast<double>(n) / draws);
}

SampleStatistics Describe(std::span<const StratumFacts> strata, double confidence) {
  SampleStatistics found;
  bool numbers_a = true, numbers_b = true, sums = true;
  double differing_blocks = 0;
  for (const StratumFacts& stratum : strata) {
    ++found.tensors;
    found.all_blocks += stratum.num_blocks;
    found.blocks += stratum.blocks.size();
    uint64_t differing = 0;
    for (const BlockComparison& block : stratum.blocks) {
      differing += block.Differs() ? 1 : 0;
      numbers_a &= block.has_numbers_a;
      numbers_b &= block.has_numbers_b;
      sums &= block.has_sums;
    }
    found.differing += differing;
    if (differing > 0) {
      differing_blocks += static_cast<double>(stratum.num_blocks) * static_cast<double>(differing) /
                          static_cast<double>(stratum.blocks.size());
    }
  }
  if (found.blocks == 0) return found;
  const auto all = static_cast<double>(found.all_blocks);
  found.differing_share = differing_blocks / all;
  if (found.blocks == found.all_blocks) {
    found.differing_at_most = found.differing_share;
  } else {
    double draws = std::numeric_limits<double>::infinity();
    for (const StratumFacts& stratum : strata) {
      if (stratum.num_blocks == 0) continue;
      draws =
          std::min(draws, static_cast<double>(stratum.blocks.size()) * all / static_cast<double>(stratum.num_blocks));
    }
    found.differing_at_most = UpperShare(found.differing, found.blocks, draws, confidence);
    found.beyond_extremes = UpperShare(0, found.blocks, draws, confidence);
  }
  const double z = TwoSidedNormal(confidence);
  if (numbers_a) found.a = DescribeSide(strata, z, &BlockComparison::a);
  if (numbers_b) found.b = DescribeSide(strata, z, &BlockComparison::b);
  if (sums) {
    const double squares = Total(strata, [](const BlockComparison& x) { return x.sums.a_squared; });
    const double distance = Total(strata, [](const BlockComparison& x) { return x.sums.difference_squared; });
    if (squares > 0) {
      const double relative = std::sqrt(distance / squares);
      found.relative_l2 = WithMargin(relative, strata, z, [&](const BlockComparison& x) {
        if (relative == 0) return 0.0;
        return (x.sums.difference_squared - relative * relative * x.sums.a_squared) / (2 * relative * squares);
      });
      // Nothing was seen to differ: that is no interval of no width.
      if (relative == 0 && found.blocks < found.all_blocks) found.relative_l2->margin = std::nullopt;
    }
  }
  return found;
}

}  // namespace sluice::verify
