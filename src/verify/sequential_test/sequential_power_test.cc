#include "verify/sequential_test/sequential_power.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "verify/testing/score_sources.h"

namespace sluice::verify::sequential_test {
namespace {

TEST(SequentialPowerTest, LeastNumbersAreThoseOfTheFormulas) {
  EXPECT_EQ(LeastPossible(Side::kBelow, {}), 182u);  // ln 0.01 / ln 0.975 = 181.9
  EXPECT_EQ(LeastPossible(Side::kAbove, {}), 2u);    // ln 0.01 / ln 0.025 = 1.25
  // 4 scores, mean 1/2: at least two are not 0. C(2,n) / C(4,n) = 1/2, 1/6, 0.
  EXPECT_EQ(LeastPossible(Side::kBelow, {.gamma = 0.5, .population = 4}), 3u);
  EXPECT_EQ(LeastPossible(Side::kBelow, {.gamma = 0.5, .alpha = 0.2, .population = 4}), 2u);
  EXPECT_EQ(LeastPossible(Side::kAbove, {.gamma = 0.5, .alpha = 0.2, .population = 4}), 2u);
  // 39 scores: gamma N = 0.975, no null has a score of 1, one alone refutes it.
  EXPECT_EQ(LeastPossible(Side::kAbove, {.population = 39}), 1u);
  // 26 of 1,024 are not 0: a sum of logarithms in Python.
  EXPECT_EQ(LeastPossible(Side::kBelow, {.population = 1024}), 165u);
  for (const uint64_t population : {uint64_t{0}, uint64_t{300}, uint64_t{1024}}) {
    const Settings settings{.population = population};
    EXPECT_GE(*ChallengesForEqualScores(settings, 0, 1024), LeastPossible(Side::kBelow, settings));
    EXPECT_GE(*ChallengesForEqualScores(settings, 1, 1024), LeastPossible(Side::kAbove, settings));
  }
}

TEST(SequentialPowerTest, EqualScoresAreCounted) {
  EXPECT_EQ(ChallengesForEqualScores({}, 0, 1024), 206u);
  EXPECT_EQ(ChallengesForEqualScores({}, 0, 206), 206u);
  EXPECT_FALSE(ChallengesForEqualScores({}, 0, 205).has_value());
  const double gap = *SmallestGapOfEqualScores(Side::kBelow, {}, 1024);
  EXPECT_NEAR(gap, 0.005, 0.0002);  // 0.02 needs 1,019
  EXPECT_TRUE(ChallengesForEqualScores({}, 0.025 - gap, 1024).has_value());
  EXPECT_FALSE(ChallengesForEqualScores({}, 0.025 - gap + 2e-6, 1024).has_value());
  EXPECT_FALSE(SmallestGapOfEqualScores(Side::kBelow, {}, 205).has_value());
  EXPECT_LT(*SmallestGapOfEqualScores(Side::kAbove, {}, 1024), gap);
}

// Zeros alone: decided at 206 with all of the probability. Ones alone: at 2.
TEST(SequentialPowerTest, CertainScoresAreDecidedWhereTheTestDecides) {
  const ZeroOnePower power(0.025, 0.01, 1024);
  const Forecast zeros = power.Of(0), ones = power.Of(1);
  EXPECT_EQ(zeros.same, 1);
  EXPECT_EQ(zeros.mean_challenges, 206);
  EXPECT_EQ(zeros.median, 206u);
  EXPECT_EQ(ones.different, 1);
  EXPECT_EQ(ones.median, 2u);
}

// One zero-one challenge or two, gamma 1/2, alpha 0.5: by hand. A score multiplies capital by 1.695 or 0.305
// (kBelow), 1.137 or 0.863 (kAbove): nothing is decided at 1. At 2, kBelow has sum w (1 + c)^2 + cash > 2 after two
// zeros: SAME with (1 - p)^2.
TEST(SequentialPowerTest, TwoChallengesByHand) {
  double twice = kCash;
  for (int j = 0; j < kNumBets; ++j) twice += BetWeight(Side::kBelow, j) * std::pow(1 + BetShare(j), 2);
  ASSERT_GT(twice, 2);
  const ZeroOnePower power(0.5, 0.5, 2);
  EXPECT_NEAR(power.Of(0.3).same, 0.49, 1e-15);
  EXPECT_EQ(power.Of(0.3).different, 0);
  EXPECT_EQ(power.Of(0.3).mean_challenges, 2);
  EXPECT_FALSE(power.Of(0.3).median.has_value());
}

TEST(SequentialPowerTest, IsWhatTheTestDoes) {
  constexpr int kRuns = 4000, kMost = 400;
  const ZeroOnePower power(0.1, 0.02, kMost);
  std::mt19937_64 words(1);
  for (const double mean : {0.04, 0.08, 0.1, 0.15, 0.2}) {
    const Forecast forecast = power.Of(mean);
    const ScoreSource source = ZeroOneScores(mean);
    int same = 0, different = 0;
    double challenges = 0;
    for (int run = 0; run < kRuns; ++run) {
      SequentialTest test({.gamma = 0.1, .alpha = 0.02});
      while (test.num_scores() < kMost && test.decided_at() == 0)
        ASSERT_TRUE(test.Add(source.draw(&words)).has_value());
      same += test.outcome() == Outcome::kSame ? 1 : 0;
      different += test.outcome() == Outcome::kDifferent ? 1 : 0;
      challenges += static_cast<double>(test.num_scores());
    }
    const auto within = [&](int count, double p) {  // 4.4 binomial errors: 1 in 100,000; one more count where p is tiny
      EXPECT_NEAR(count, kRuns * p, 4.4 * std::sqrt(kRuns * p * (1 - p)) + 1) << mean;
    };
    within(same, forecast.same);
    within(different, forecast.different);
    // A number of challenges has a deviation of at most half its range.
    EXPECT_NEAR(challenges / kRuns, forecast.mean_challenges, 4.4 * kMost / 2 / std::sqrt(kRuns));
  }
}

TEST(SequentialPowerTest, SmallestGapsReachTheirPower) {
  const ZeroOnePower power(0.025, 0.01, 1024);
  const double below = *power.SmallestGap(Side::kBelow, 0.9), above = *power.SmallestGap(Side::kAbove, 0.9);
  EXPECT_GE(power.Of(0.025 - below).same, 0.9);
  EXPECT_LT(power.Of(0.025 - below + 2e-6).same, 0.9);
  EXPECT_GE(power.Of(0.025 + above).different, 0.9);
  EXPECT_LT(power.Of(0.025 + above - 2e-6).different, 0.9);
  EXPECT_GT(below, *SmallestGapOfEqualScores(Side::kBelow, {}, 1024)) << "no spread is settled earlier";
  EXPECT_FALSE(ZeroOnePower(0.025, 0.01, 205).SmallestGap(Side::kBelow, 0.5).has_value());
}

}  // namespace
}  // namespace sluice::verify::sequential_test
