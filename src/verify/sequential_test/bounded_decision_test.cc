#include "verify/sequential_test/bounded_decision.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "verify/testing/score_sources.h"

namespace sluice::verify::sequential_test {
namespace {

constexpr double kGamma = 0.025, kAlpha = 0.01;

TEST(BoundedDecisionTest, EqualBoundsAreTheSequentialTest) {
  std::mt19937_64 words(1);
  for (const uint64_t population : {0u, 400u}) {
    for (const double mean : {0.001, 0.02, 0.05}) {
      const Settings settings{.gamma = kGamma, .alpha = kAlpha, .population = population};
      SequentialTest plain(settings);
      BoundedTest bounded(settings);
      const ScoreSource source = PowerScores(mean);
      for (int t = 0; t < 400; ++t) {
        const double score = source.draw(&words);
        ASSERT_TRUE(plain.Add(score));
        ASSERT_TRUE(bounded.Add(score, score));
        ASSERT_EQ(plain.outcome(), bounded.outcome());
        ASSERT_EQ(plain.log_capital_same(), bounded.log_capital_same());
        ASSERT_EQ(plain.log_capital_different(), bounded.log_capital_different());
      }
      EXPECT_EQ(plain.decided_at(), bounded.decided_at());
    }
  }
}

// The proof, on paths: no capital of bounds is ever above that of the scores between them, not by a bit.
TEST(BoundedDecisionTest, CapitalNeverExceedsThatOfTheScores) {
  std::mt19937_64 words(2);
  for (const uint64_t population : {0u, 300u}) {
    for (int run = 0; run < 200; ++run) {
      const Settings settings{.gamma = kGamma, .alpha = kAlpha, .population = population};
      SequentialTest plain(settings);
      BoundedTest bounded(settings);
      for (int t = 0; t < 300; ++t) {
        const double score = Uniform(&words) < 0.1 ? Uniform(&words) : 0.05 * Uniform(&words);
        const double lower = score * Uniform(&words), upper = score + (1 - score) * Uniform(&words) * 0.1;
        ASSERT_TRUE(plain.Add(score));
        ASSERT_TRUE(bounded.Add(lower, upper));
        // The logarithm is monotone but for its rounding.
        ASSERT_LE(bounded.log_capital_same(), plain.log_capital_same() + 1e-12);
        ASSERT_LE(bounded.log_capital_different(), plain.log_capital_different() + 1e-12);
      }
    }
  }
}

TEST(BoundedDecisionTest, DecidesByTheEndThatCounts) {
  BoundedTest same({.gamma = kGamma, .alpha = kAlpha}), open({.gamma = kGamma, .alpha = kAlpha}),
      different({.gamma = kGamma, .alpha = kAlpha});
  EXPECT_EQ(same.outcome(), Outcome::kInvalid) << "no score, no verdict";
  for (int t = 0; t < 1024; ++t) {
    ASSERT_TRUE(same.Add(0, 0.005));
    ASSERT_TRUE(open.Add(0, 0.5));  // the same model, seen through five tokens
    ASSERT_TRUE(different.Add(0.05, 1));
  }
  EXPECT_EQ(same.outcome(), Outcome::kSame);
  EXPECT_EQ(open.outcome(), Outcome::kUndecided);
  EXPECT_EQ(different.outcome(), Outcome::kDifferent);
  EXPECT_NEAR(same.mean_upper(), 0.005, 1e-12);
  EXPECT_EQ(open.mean_lower(), 0);
}

TEST(BoundedDecisionTest, WhatIsNoBoundIsInvalidForGood) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [lower, upper] :
       std::initializer_list<std::pair<double, double>>{{0.2, 0.1}, {-0.1, 0.1}, {0, 1.1}, {kNan, 0.5}, {0, kNan}}) {
    BoundedTest test({.gamma = kGamma, .alpha = kAlpha});
    for (int t = 0; t < 300; ++t) ASSERT_TRUE(test.Add(0, 0));
    ASSERT_EQ(test.outcome(), Outcome::kSame);
    const auto added = test.Add(lower, upper);
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(test.outcome(), Outcome::kInvalid);
  }
  BoundedTest set({.gamma = kGamma, .alpha = kAlpha, .population = 2});
  ASSERT_TRUE(set.Add(0, 0));
  ASSERT_TRUE(set.Add(0, 0));
  EXPECT_FALSE(set.Add(0, 0)) << "one too many";
  EXPECT_EQ(set.outcome(), Outcome::kInvalid);
}

struct Rates {
  double same = 0, different = 0;
};

// bounds(score, test, words): an adversary who sees the score and all capital chooses how far the bounds lie from it.
using Bounds = std::function<std::pair<double, double>(double, const BoundedTest&, std::mt19937_64*)>;

Rates Simulate(const std::string& name, const ScoreSource& source, uint64_t population, const Bounds& bounds) {
  constexpr int kRuns = 10'000;
  constexpr uint64_t kMost = 512;
  std::mt19937_64 words(17);
  std::vector<double> set(population);
  if (population > 0) {  // a fixed set whose mean is gamma
    std::fill_n(set.begin(), population / 20, 0.5);
    set[population / 20] = kGamma * static_cast<double>(population) - 0.5 * static_cast<double>(population / 20);
  }
  Rates rates;
  for (int run = 0; run < kRuns; ++run) {
    BoundedTest test({.gamma = kGamma, .alpha = kAlpha, .population = population});
    std::ranges::shuffle(set, words);
    for (uint64_t t = 0; t < (population > 0 ? population : kMost) && test.decided_at() == 0; ++t) {
      const double score = population > 0 ? set[t] : source.draw(&words);
      const auto [lower, upper] = bounds(score, test, &words);
      EXPECT_TRUE(test.Add(lower, upper));
    }
    rates.same += test.outcome() == Outcome::kSame ? 1.0 / kRuns : 0;
    rates.different += test.outcome() == Outcome::kDifferent ? 1.0 / kRuns : 0;
  }
  fmt::print("| {:52} | {:6.2f}% | {:6.2f}% |\n", name, 100 * rates.same, 100 * rates.different);
  return rates;
}

// At mean gamma both answers are wrong, whatever the bounds; 10,000 runs, seeded.
TEST(BoundedDecisionTest, ErrorsAreKeptByBoundsThatAnAdversaryChooses) {
  const Bounds tight = [](double score, const BoundedTest&, std::mt19937_64*) { return std::pair(score, score); };
  const Bounds loose = [](double score, const BoundedTest&, std::mt19937_64* words) {
    return std::pair(score * Uniform(words), score + (1 - score) * 0.01 * Uniform(words));
  };
  // Tight where a side is winning, wide where it loses.
  const Bounds adaptive = [](double score, const BoundedTest& test, std::mt19937_64*) {
    const bool wins = test.num_scores() > 0 && test.log_capital_same() > 1;
    return wins ? std::pair(score, score) : std::pair(score / 2, std::min(1.0, score + 0.001));
  };
  for (const uint64_t population : {uint64_t{0}, uint64_t{200}}) {
    for (const auto& [how, bounds] :
         {std::pair("exact", tight), std::pair("loose", loose), std::pair("adaptive", adaptive)}) {
      for (const ScoreSource& source : {ZeroOneScores(kGamma), PowerScores(kGamma)}) {
        const Rates rates =
            Simulate(fmt::format("{}, bounds {}", population > 0 ? "set: 5% of 0.5, mean gamma" : source.name, how),
                     source, population, bounds);
        EXPECT_LE(rates.same, kAlpha);
        EXPECT_LE(rates.different, kAlpha);
        if (population > 0) break;
      }
    }
  }
}

// The counter-example: who bets SAME on lower ends (or midpoints) of a model that differs calls it the same.
TEST(BoundedDecisionTest, BettingOnTheWrongEndIsWrong) {
  SequentialTest wrong({.gamma = kGamma, .alpha = kAlpha});
  BoundedTest right({.gamma = kGamma, .alpha = kAlpha});
  for (int t = 0; t < 512; ++t) {
    const double score = 0.04, lower = 0.001, upper = 0.045;
    ASSERT_TRUE(lower <= score && score <= upper);
    ASSERT_TRUE(wrong.Add(lower));
    ASSERT_TRUE(right.Add(lower, upper));
  }
  EXPECT_EQ(wrong.outcome(), Outcome::kSame);
  EXPECT_EQ(right.outcome(), Outcome::kUndecided);
}

}  // namespace
}  // namespace sluice::verify::sequential_test
