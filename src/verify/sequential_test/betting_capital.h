// BettingCapital: what one who started with 1 has after betting, score by score, that the mean of scores in [0, 1] lies
// below a level m (or above it). Under the null that the mean is at least m (at most m) nobody gets rich: the capital
// is a non-negative supermartingale, so by Ville's inequality it ever reaches 1/alpha with probability alpha at most,
// at whatever time one looks. docs/sequential_test.md has theory, proofs and sources.
//
// Two models of where scores come from; to take one for the other voids the proof:
// - population == 0: scores drawn one after another. Null: at every t the mean of X_t, given all before it, is at least
//   (at most) m. Independent draws from one distribution are the plain case.
// - population == N > 0: a fixed multiset of N scores in uniformly random order. Null: their mean is at least (at most)
//   m. The level bet against at t is what that makes the mean of those left: (N m - sum so far) / (N - t + 1).
//
// The stake on X_t is a share c of the largest that cannot lose more than all: a factor 1 + c (l - x) / (1 - l) for
// kBelow, 1 + c (x - l) / l for kAbove, l the level. The capital is the sum over kNumBets shares c_j = 2^(-j/2), each
// held throughout from w_j on, and cash: a supermartingale too, and its logarithm within ln(1/w_j) of the best share's.
//
// Bits: + - * / and sqrt alone, in one order, so every IEEE 754 machine gets the same; no logarithm enters but in
// Log(). Parts are kept as double times 2^(512 i): no number of scores overflows or underflows them. Not thread-safe;
// 0.9 KiB.
#pragma once

#include <array>
#include <cstdint>

namespace sluice::verify::sequential_test {

enum class Side {
  kBelow,  // bets that the mean is below the level: evidence for SAME
  kAbove,  // that it is above: evidence for DIFFERENT
};

constexpr int kNumBets = 24;  // shares from 1 down to 2^-11.5

// c_j and its share w_j of the capital at the start. kBelow: 1 / ((j+1)(j+2)), half on the largest bet, which is the
// best where scores are near 0; kAbove: 1/25 each. 1/25 is cash on both sides.
double BetShare(int j);
double BetWeight(Side side, int j);
constexpr double kCash = 1.0 / (kNumBets + 1);

class BettingCapital {
 public:
  // 0 < mean < 1.
  BettingCapital(Side side, double mean, uint64_t population);

  // A score in [0, 1]; at most `population` of them where that is not 0.
  void Add(double score);

  // Natural logarithm; +infinity where the null has become impossible (population only: what is left cannot make it
  // true any more).
  double Log() const;
  // Capital >= target, 0 < target <= 2^300: what to decide by. As Log() >= ln target, without its rounding.
  bool Reaches(double target) const;

 private:
  double Level() const;  // the null's mean of the next score
  void Rescale();
  double InTopUnits() const;

  Side side_;
  double mean_;
  uint64_t population_;
  uint64_t seen_ = 0;
  double sum_ = 0, sum_error_ = 0;  // Neumaier's: sum_ + sum_error_
  bool refuted_ = false;
  std::array<double, kNumBets> shares_;
  std::array<double, kNumBets> parts_;  // times 2^(512 units_[j])
  std::array<int64_t, kNumBets> units_ = {};
  int64_t top_unit_ = 0;                       // the largest of them, and of cash's, which is 0
  std::array<double, kNumBets> in_top_units_;  // 2^(512 (units_[j] - top_unit_)); 0 where that is below 2^-512
};

}  // namespace sluice::verify::sequential_test
