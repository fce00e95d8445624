#include "verify/sequential_test/betting_capital.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::verify::sequential_test {
namespace {

double LogAfter(Side side, double mean, uint64_t population, const std::vector<double>& scores) {
  BettingCapital capital(side, mean, population);
  for (const double score : scores) capital.Add(score);
  return capital.Log();
}

TEST(BettingCapitalTest, StartsWithOneAndSharesAreThoseOfTheHeader) {
  for (const Side side : {Side::kBelow, Side::kAbove}) {
    double sum = kCash;
    for (int j = 0; j < kNumBets; ++j) sum += BetWeight(side, j);
    EXPECT_NEAR(sum, 1, 1e-15);
    EXPECT_NEAR(LogAfter(side, 0.3, 0, {}), 0, 1e-15);
  }
  EXPECT_EQ(BetShare(0), 1);
  EXPECT_EQ(BetShare(2), 0.5);
  EXPECT_EQ(BetShare(22), 0x1p-11);
  EXPECT_NEAR(BetShare(1) * BetShare(1), 0.5, 3e-16);
  EXPECT_EQ(BetWeight(Side::kBelow, 0), 0.5);
}

// At m = 1/2 a score of 0 multiplies by 1 + c_j for kBelow, 1 - c_j for kAbove; a score of 1 the other way; m by
// nothing.
TEST(BettingCapitalTest, OneScoreMovesEachPartByItsShare) {
  double weighted = 0, plain = 0;
  for (int j = 0; j < kNumBets; ++j) {
    weighted += BetWeight(Side::kBelow, j) * BetShare(j);
    plain += BetShare(j) / 25;
  }
  EXPECT_NEAR(weighted, 0.69489766168283918617, 1e-15);
  EXPECT_NEAR(plain, 0.13653520056560375220, 1e-15);
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.5, 0, {0.0}), std::log(1 + weighted), 1e-15);
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.5, 0, {1.0}), std::log(1 - weighted), 1e-15);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.5, 0, {1.0}), std::log(1 + plain), 1e-15);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.5, 0, {0.0}), std::log(1 - plain), 1e-15);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.5, 0, {0.5, 0.5}), 0, 1e-15);
}

// By 60 digits of Python's decimal from the formulas alone.
TEST(BettingCapitalTest, SeveralScoresGiveWhatTheFormulasGive) {
  const std::vector<double> drawn = {0, 0.5, 0.01, 0.03, 1};
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.025, 0, drawn), -1.31773036714178418317, 1e-13);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.025, 0, drawn), 2.64710017388920451755, 1e-13);
  // Levels 1/4, 1.5/7, 1/4, 1/4: of what is left of 8 scores with the mean 1/4.
  const std::vector<double> set = {0.5, 0, 0.25, 0.125};
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.25, 8, set), 0.00303569227163984979, 1e-13);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.25, 8, set), -0.12480300441983621783, 1e-13);
}

// A martingale at the level itself: over all sequences of scores with probabilities that give the mean m, capital is 1
// on average after every number of them. 3^7 sequences.
TEST(BettingCapitalTest, IsAMartingaleAtTheLevel) {
  const std::vector<double> values = {0, 0.25, 1}, chances = {0.7, 0.2, 0.1};  // mean 0.15
  for (const Side side : {Side::kBelow, Side::kAbove}) {
    for (const double mean : {0.15, 0.1, 0.2}) {
      double expected = 0;
      for (int code = 0; code < 2187; ++code) {
        BettingCapital capital(side, mean, 0);
        double chance = 1;
        for (int i = 0, rest = code; i < 7; ++i, rest /= 3) {
          capital.Add(values[static_cast<size_t>(rest % 3)]);
          chance *= chances[static_cast<size_t>(rest % 3)];
        }
        expected += chance * std::exp(capital.Log());
      }
      if (mean == 0.15) {
        EXPECT_NEAR(expected, 1, 1e-12);
      } else if ((side == Side::kBelow) == (mean < 0.15)) {
        EXPECT_LT(expected, 0.99) << "the null holds and the mean is not at its edge";
      } else {
        EXPECT_GT(expected, 1.01) << "the null is false: the capital grows";
      }
    }
  }
}

// Over all orders of a set with the mean m: 1 on average after every number of them, by the level of what is left.
// Against m itself, as if drawn with replacement, one who bets by what was seen has more: {0, 1}, m = 1/2, all on the
// second score being 0 after a 1, nothing otherwise, has 1 or 2, 1.5 on average.
TEST(BettingCapitalTest, IsAMartingaleOverAllOrdersOfASet) {
  std::vector<double> set = {0, 0.0625, 0.125, 0.3125, 0.5, 0.5};  // sum 1.5
  for (const Side side : {Side::kBelow, Side::kAbove}) {
    std::vector<double> expected(set.size() + 1, 0.0);
    int orders = 0;
    std::ranges::sort(set);
    do {
      BettingCapital capital(side, 0.25, set.size());
      for (size_t t = 0; t < set.size(); ++t) {
        capital.Add(set[t]);
        expected[t + 1] += std::exp(capital.Log());
      }
      ++orders;
    } while (std::ranges::next_permutation(set).found);
    EXPECT_EQ(orders, 360);  // two of the scores are equal
    for (size_t t = 1; t < set.size(); ++t) EXPECT_NEAR(expected[t] / orders, 1, 1e-11) << t;
    // The last score is known before it is seen: the slack of the level costs bets on it, and never pays.
    EXPECT_LE(expected[set.size()] / orders, 1 + 1e-11);
  }
}

// The last score of a set is known before it is seen but for rounding, here of a level of 2^-46 (or 1 less that):
// whoever were 2^-47 off the wrong way would double what the largest bet has.
TEST(BettingCapitalTest, RoundingOfTheLevelNeverPays) {
  const double tiny = 0x1p-46;
  for (const Side side : {Side::kBelow, Side::kAbove}) {
    const double last = side == Side::kBelow ? 1 - tiny : tiny;
    BettingCapital capital(side, (0.5 + last) / 2, 2);
    capital.Add(0.5);
    const double before = capital.Log();
    capital.Add(last);
    EXPECT_LE(capital.Log(), before);
    EXPECT_FALSE(std::isinf(capital.Log()));
  }
}

TEST(BettingCapitalTest, ANullThatCannotBeTrueAnyMoreIsRefuted) {
  BettingCapital below(Side::kBelow, 0.5, 4), above(Side::kAbove, 0.5, 4);
  for (int i = 0; i < 2; ++i) below.Add(0), above.Add(1);
  EXPECT_FALSE(std::isinf(below.Log()));  // 0, 0, 1, 1 is still possible
  EXPECT_FALSE(std::isinf(above.Log()));
  below.Add(0);
  above.Add(0x1p-20);
  EXPECT_TRUE(std::isinf(below.Log()) && below.Reaches(1e300));
  EXPECT_TRUE(std::isinf(above.Log()) && above.Reaches(1e300));
  // The whole set has exactly the mean: never refuted, in whatever order, though sums are rounded.
  for (const uint64_t count : {10u, 1000u}) {
    std::vector<double> set(count, 0.1);
    for (size_t i = 0; i < count; i += 2) set[i] = 0.3, set[i + 1] = 0.1;
    for (const Side side : {Side::kBelow, Side::kAbove}) {
      EXPECT_FALSE(std::isinf(LogAfter(side, 0.2, count, set)));
      std::ranges::sort(set);
      EXPECT_FALSE(std::isinf(LogAfter(side, 0.2, count, set)));
    }
  }
}

TEST(BettingCapitalTest, AMillionScoresNeitherOverflowNorUnderflow) {
  const std::vector<double> zeros(1'000'000, 0.0), ones(1'000'000, 1.0);
  // The largest bet's part alone: each factor is 1 / 0.975, or 40.
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.025, 0, zeros), 1e6 * -std::log(0.975) + std::log(0.5), 1e-4);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.025, 0, ones), 1e6 * std::log(40) + std::log(1.0 / 25), 1e-3);
  // All parts lost: the cash.
  EXPECT_NEAR(LogAfter(Side::kBelow, 0.025, 0, ones), std::log(1.0 / 25), 1e-12);
  EXPECT_NEAR(LogAfter(Side::kAbove, 0.025, 0, zeros), std::log(1.0 / 25), 1e-12);
  BettingCapital back(Side::kAbove, 0.025, 0);
  for (int i = 0; i < 5000; ++i) back.Add(0);
  EXPECT_FALSE(back.Reaches(1));
  int needed = 0;
  while (!back.Reaches(100)) back.Add(1), ++needed;
  // The least bet has (1 - 2^-11.5)^5000 = e^-1.73 of its share left, the next one 2^-11 e^-2.44 and so on: they come
  // back first.
  EXPECT_GE(back.Log(), std::log(100.0));
  EXPECT_GT(needed, 100);
  EXPECT_LT(needed, 1000);
}

TEST(BettingCapitalTest, ReachesIsTheLogarithmWithoutItsRounding) {
  BettingCapital capital(Side::kBelow, 0.025, 0);
  for (int i = 0; i < 60'000; ++i) {
    capital.Add(i % 1000 < 999 ? 0.0 : 0.5);
    if (i % 97 > 0) continue;
    const double log = capital.Log();
    if (log > 400) EXPECT_TRUE(capital.Reaches(0x1p300));
    if (log < 200) {
      EXPECT_TRUE(capital.Reaches(std::exp(log) * (1 - 1e-9)));
      EXPECT_FALSE(capital.Reaches(std::exp(log) * (1 + 1e-9)));
    }
  }
}

}  // namespace
}  // namespace sluice::verify::sequential_test
