#include "verify/sequential_test/sequential_power.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace sluice::verify::sequential_test {
namespace {

constexpr double kGapError = 1e-6;

// ln of the capital after t scores of which k are 1, the others 0.
class ZeroOneCapital {
 public:
  ZeroOneCapital(Side side, double gamma) {
    for (int j = 0; j < kNumBets; ++j) {
      const double share = BetShare(j);
      const double win = side == Side::kBelow ? share * gamma / (1 - gamma) : share * (1 - gamma) / gamma;
      win_[static_cast<size_t>(j)] = std::log1p(win);
      lose_[static_cast<size_t>(j)] = std::log1p(-share);
      weight_[static_cast<size_t>(j)] = std::log(BetWeight(side, j));
    }
  }
  double LogAt(int64_t wins, int64_t losses) const {
    std::array<double, kNumBets + 1> logs;
    for (size_t j = 0; j < kNumBets; ++j) {
      logs[j] =
          weight_[j] + static_cast<double>(wins) * win_[j] + (losses > 0 ? static_cast<double>(losses) * lose_[j] : 0);
    }
    logs[kNumBets] = std::log(kCash);
    const double most = *std::ranges::max_element(logs);
    double sum = 0;
    for (const double log : logs) sum += std::exp(log - most);
    return most + std::log(sum);
  }

 private:
  std::array<double, kNumBets> win_, lose_, weight_;
};

// Bisects between a mean that is settled and gamma, which is not.
template <class IsSettled>
std::optional<double> FindGap(Side side, double gamma, double extreme, IsSettled is_settled) {
  if (!is_settled(extreme)) return std::nullopt;
  double settled = extreme, open = gamma;
  while (std::abs(settled - open) > kGapError) {
    const double middle = (settled + open) / 2;
    (is_settled(middle) ? settled : open) = middle;
  }
  return side == Side::kBelow ? gamma - settled : settled - gamma;
}

}  // namespace

uint64_t LeastPossible(Side side, const Settings& settings) {
  const double log_alpha = std::log(settings.alpha);
  if (settings.population == 0) {
    const double log_each = side == Side::kBelow ? std::log1p(-settings.gamma) : std::log(settings.gamma);
    return static_cast<uint64_t>(std::ceil(log_alpha / log_each));
  }
  // Scores that look like this side's in the null that is the hardest to tell from it.
  const auto all = static_cast<double>(settings.population);
  const double alike = side == Side::kBelow ? all - std::ceil(all * settings.gamma) : std::floor(all * settings.gamma);
  double log_probability = 0;
  for (uint64_t n = 1;; ++n) {
    const auto drawn = static_cast<double>(n - 1);
    if (drawn >= alike) return n;
    log_probability += std::log((alike - drawn) / (all - drawn));
    if (log_probability <= log_alpha) return n;
  }
}

std::optional<uint64_t> ChallengesForEqualScores(const Settings& settings, double score, uint64_t limit) {
  SequentialTest test(settings);
  if (settings.population > 0) limit = std::min(limit, settings.population);
  while (test.num_scores() < limit) {
    SLUICE_CHECK(test.Add(score).has_value());
    if (test.decided_at() > 0) return test.decided_at();
  }
  return std::nullopt;
}

ZeroOnePower::ZeroOnePower(double gamma, double alpha, uint64_t n) : gamma_(gamma), n_(n) {
  SLUICE_CHECK(CheckSettings({.gamma = gamma, .alpha = alpha}).has_value());
  const ZeroOneCapital below(Side::kBelow, gamma), above(Side::kAbove, gamma);
  const double target = -std::log(alpha);
  // Both boundaries only rise with t: a zero is worth something to the one, and costs the other.
  int64_t most = -1, least = 0;
  for (int64_t t = 0; t <= static_cast<int64_t>(n); ++t) {
    while (most < t && below.LogAt(t - most - 1, most + 1) >= target) ++most;
    while (least <= t && above.LogAt(least, t - least) < target) ++least;
    most_for_same_.push_back(most);
    least_for_different_.push_back(least);
  }
}

Forecast ZeroOnePower::Of(double mean) const {
  Forecast found;
  std::vector<double> open = {1};  // [k]: probability of k ones so far and no decision
  double decided = 0;
  for (uint64_t t = 1; t <= n_; ++t) {
    const auto most = std::min(static_cast<int64_t>(open.size()), least_for_different_[t] - 1);
    found.mean_challenges += 1 - decided;
    std::vector<double> next(static_cast<size_t>(std::max<int64_t>(most + 1, 0)), 0.0);
    for (int64_t k = 0; k <= static_cast<int64_t>(open.size()); ++k) {
      const auto at = static_cast<size_t>(k);
      const double p = (at < open.size() ? open[at] * (1 - mean) : 0) + (at > 0 ? open[at - 1] * mean : 0);
      if (k <= most_for_same_[t]) {
        found.same += p;
      } else if (k >= least_for_different_[t]) {
        found.different += p;
      } else {
        next[at] = p;
      }
    }
    open = std::move(next);
    decided = found.same + found.different;
    if (!found.median && decided >= 0.5) found.median = t;
  }
  return found;
}

std::optional<double> ZeroOnePower::SmallestGap(Side side, double power) const {
  return FindGap(side, gamma_, side == Side::kBelow ? 0.0 : 1.0, [&](double mean) {
    const Forecast forecast = Of(mean);
    return (side == Side::kBelow ? forecast.same : forecast.different) >= power;
  });
}

std::optional<double> SmallestGapOfEqualScores(Side side, const Settings& settings, uint64_t n) {
  return FindGap(side, settings.gamma, side == Side::kBelow ? 0.0 : 1.0,
                 [&](double score) { return ChallengesForEqualScores(settings, score, n).has_value(); });
}

}  // namespace sluice::verify::sequential_test
