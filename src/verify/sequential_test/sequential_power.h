// What a sequential test can do with n challenges, before any is asked: the least number that anybody needs, the number
// that the rule here needs, and its power. Exact, nothing is simulated. For the test with independent draws; with a set
// of prompts only what says so.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::sequential_test {

// No rule that depends on scores alone and keeps its error at alpha decides for `side` with fewer challenges, were all
// scores 0 (kBelow) or 1 (kAbove): a null with scores 0 and 1 alone shows the same with a probability above alpha until
// then. Independent: ceil(ln alpha / ln(1 - gamma)), ceil(ln alpha / ln gamma). A set of N: the least n with
// C(K, n) / C(N, n) <= alpha, where K = N - ceil(N gamma) scores may be 0 (kAbove: K = floor(N gamma) may be 1).
uint64_t LeastPossible(Side side, const Settings& settings);

// After how many scores, all of this size, the rule here decides, whichever way; nullopt: not within `limit`.
std::optional<uint64_t> ChallengesForEqualScores(const Settings& settings, double score, uint64_t limit);

// Scores 0 and 1 alone: of all with a given mean those of the least growth of capital, for every bet (ln(1 + b(m - x))
// is concave in x). So this is what to plan with where nothing is known of the scores' spread.
struct Forecast {
  double same = 0, different = 0;  // probabilities of these outcomes within n
  double mean_challenges = 0;      // until decided, or n
  std::optional<uint64_t> median;  // challenges until decided, nullopt: more than n
};

// The boundaries of the test for counts of ones, up to n; Of() costs O(n times their distance).
class ZeroOnePower {
 public:
  ZeroOnePower(double gamma, double alpha, uint64_t n);
  Forecast Of(double mean) const;  // of independent scores that are 1 with this probability, 0 else

  // The smallest g such that mean gamma - g (kBelow), gamma + g (kAbove) is told rightly with this probability within
  // n. nullopt: no mean is. To 1e-6.
  std::optional<double> SmallestGap(Side side, double power) const;

 private:
  double gamma_;
  uint64_t n_;
  std::vector<int64_t> most_for_same_;        // [t], t = 0..n: SAME at t with so many ones or fewer; -1: with none
  std::vector<int64_t> least_for_different_;  // DIFFERENT with so many or more; t + 1: with none
};

// The same for scores without spread, all gamma - g or gamma + g: no others of their mean are settled earlier on
// average.
std::optional<double> SmallestGapOfEqualScores(Side side, const Settings& settings, uint64_t n);

}  // namespace sluice::verify::sequential_test
