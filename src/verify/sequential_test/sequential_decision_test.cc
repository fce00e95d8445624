#include "verify/sequential_test/sequential_decision.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "verify/testing/score_sources.h"

namespace sluice::verify::sequential_test {
namespace {

uint64_t DecidedAt(const Settings& settings, double score, Outcome expected) {
  SequentialTest test(settings);
  for (int i = 0; i < 2000 && test.decided_at() == 0; ++i) EXPECT_TRUE(test.Add(score).has_value());
  EXPECT_EQ(test.outcome(), expected) << score;
  return test.decided_at();
}

// By 60 digits of Python's decimal from the formulas alone. At gamma nothing is ever decided.
TEST(SequentialTestTest, EqualScoresDecideWhereTheFormulasSay) {
  const Settings settings;
  EXPECT_EQ(DecidedAt(settings, 0, Outcome::kSame), 206u);
  EXPECT_EQ(DecidedAt(settings, 0.003, Outcome::kSame), 234u);
  EXPECT_EQ(DecidedAt(settings, 0.01, Outcome::kSame), 342u);
  EXPECT_EQ(DecidedAt(settings, 0.015, Outcome::kSame), 511u);
  EXPECT_EQ(DecidedAt(settings, 0.02, Outcome::kSame), 1019u);
  EXPECT_EQ(DecidedAt(settings, 1, Outcome::kDifferent), 2u);
  EXPECT_EQ(DecidedAt(settings, 0.5, Outcome::kDifferent), 3u);
  EXPECT_EQ(DecidedAt(settings, 0.1, Outcome::kDifferent), 6u);
  EXPECT_EQ(DecidedAt(settings, 0.05, Outcome::kDifferent), 11u);
  EXPECT_EQ(DecidedAt(settings, 0.03, Outcome::kDifferent), 43u);
  EXPECT_EQ(DecidedAt(settings, 0.025, Outcome::kUndecided), 0u);
}

// A whole set is known exactly: 0.2 lies below a mean of 0.3 for certain once what is left cannot make up for it.
TEST(SequentialTestTest, AWholeSetIsDecidedWithoutError) {
  // 10 of 0.2: sum 3 needed; after t of them 10 - t >= 3 - 0.2 t holds until t = 8 (2 >= 1.4) and fails at 9 (1 < 1.2).
  EXPECT_EQ(DecidedAt({.gamma = 0.3, .alpha = 1e-12, .population = 10}, 0.2, Outcome::kSame), 9u);
  // 10 of 0.4: more than 3 at t = 8.
  EXPECT_EQ(DecidedAt({.gamma = 0.3, .alpha = 1e-12, .population = 10}, 0.4, Outcome::kDifferent), 8u);
  SequentialTest equal({.gamma = 0.3, .alpha = 1e-12, .population = 10});
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(equal.Add(0.3).has_value());
  EXPECT_EQ(equal.outcome(), Outcome::kUndecided);
}

TEST(SequentialTestTest, WhatWasDecidedIsKept) {
  SequentialTest test({});
  for (int i = 0; i < 206; ++i) ASSERT_TRUE(test.Add(0).has_value());
  EXPECT_EQ(test.outcome(), Outcome::kSame);
  EXPECT_GE(test.log_capital_same(), test.log_target());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(test.Add(1).has_value());
  EXPECT_EQ(test.outcome(), Outcome::kSame);
  EXPECT_EQ(test.decided_at(), 206u);
  EXPECT_EQ(test.num_scores(), 306u);
  EXPECT_GE(test.log_capital_different(), test.log_target()) << "told, and too late";
}

TEST(SequentialTestTest, NothingAndWhatIsNoScoreAreInvalid) {
  EXPECT_EQ(SequentialTest({}).outcome(), Outcome::kInvalid);
  for (const double bad : {std::nan(""), -1e-300, 1.0000000000000002, std::numeric_limits<double>::infinity()}) {
    SequentialTest test({});
    ConfidenceSequence interval(0.01, 0);
    for (int i = 0; i < 250; ++i) {
      ASSERT_TRUE(test.Add(0).has_value());
      ASSERT_TRUE(interval.Add(0).has_value());
    }
    const auto added = test.Add(bad);
    ASSERT_FALSE(added.has_value());
    EXPECT_EQ(added.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(added.error().message.find("challenge 250"), std::string::npos) << added.error().message;
    EXPECT_EQ(test.outcome(), Outcome::kInvalid) << "whatever was decided";
    EXPECT_TRUE(test.Add(0).has_value());
    EXPECT_EQ(test.outcome(), Outcome::kInvalid);
    EXPECT_FALSE(interval.Add(bad).has_value());
    EXPECT_EQ(interval.upper(), 1);
    EXPECT_FALSE(interval.Add(0).has_value());
    EXPECT_FALSE(NoiseFloor(std::vector<double>{0, bad}, 0.01, 0).has_value());
  }
  SequentialTest full({.gamma = 0.5, .alpha = 0.01, .population = 2});
  ASSERT_TRUE(full.Add(0.5).has_value());
  ASSERT_TRUE(full.Add(0.5).has_value());
  EXPECT_EQ(full.outcome(), Outcome::kUndecided);
  EXPECT_FALSE(full.Add(0.5).has_value());
  EXPECT_EQ(full.outcome(), Outcome::kInvalid);
}

TEST(SequentialTestTest, SettingsOutsideTheirRangesAreRefused) {
  EXPECT_TRUE(CheckSettings({}).has_value());
  for (const double bad : {0.0, 1.0, -1.0, 1e-7, std::nan("")}) {
    const auto checked = CheckSettings({.gamma = bad});
    ASSERT_FALSE(checked.has_value());
    EXPECT_EQ(checked.error().code, ErrorCode::kUsage);
  }
  for (const double bad : {0.0, 0.6, -1.0, std::nan("")}) EXPECT_FALSE(CheckSettings({.alpha = bad}).has_value());
  EXPECT_FALSE(CheckSettings({.population = uint64_t{1} << 41}).has_value());
}

// n zeros multiply the largest bet, half of the capital, by (1 - m)^-n, and the rest by no more: the upper limit lies
// between 1 - alpha^(1/n) and 1 - (alpha / 2)^(1/n).
TEST(ConfidenceSequenceTest, ZerosGiveTheLimitOfTheFormula) {
  ConfidenceSequence interval(0.01, 0);
  for (int n = 1; n <= 400; ++n) {
    const double before = interval.upper();
    ASSERT_TRUE(interval.Add(0).has_value());
    EXPECT_LE(interval.upper(), before);
    EXPECT_EQ(interval.lower(), 0);
    EXPECT_LE(interval.upper(), 1 - std::pow(0.005, 1.0 / n) + ConfidenceSequence::kBoundError) << n;
    EXPECT_GE(interval.upper(), 1 - std::pow(0.01, 1.0 / n)) << "no rule can do better";
    if (n == 205) EXPECT_GT(interval.upper(), 0.025);
    if (n == 206) EXPECT_LE(interval.upper(), 0.025 + ConfidenceSequence::kBoundError);
  }
}

TEST(ConfidenceSequenceTest, AgreesWithTheTestAtEveryGamma) {
  std::mt19937_64 words(3);
  for (const uint64_t population : {uint64_t{0}, uint64_t{300}}) {
    for (const ScoreSource& source : {PowerScores(0.02), UniformScores(0.1), ZeroOneScores(0.3)}) {
      ConfidenceSequence interval(0.05, population);
      std::vector<SequentialTest> tests;
      std::vector<double> gammas;
      for (double gamma = 0.005; gamma < 0.9; gamma *= 1.3) {
        gammas.push_back(gamma);
        tests.emplace_back(Settings{.gamma = gamma, .alpha = 0.05, .population = population});
      }
      int decided = 0;
      for (int t = 0; t < 300; ++t) {
        const double score = source.draw(&words);
        ASSERT_TRUE(interval.Add(score).has_value());
        EXPECT_LT(interval.lower(), interval.upper());
        for (size_t i = 0; i < tests.size(); ++i) {
          ASSERT_TRUE(tests[i].Add(score).has_value());
          const Outcome outcome = tests[i].outcome();
          if (std::abs(interval.upper() - gammas[i]) > ConfidenceSequence::kBoundError) {
            EXPECT_EQ(outcome == Outcome::kSame, interval.upper() < gammas[i]) << source.name << " " << t;
          }
          if (std::abs(interval.lower() - gammas[i]) > ConfidenceSequence::kBoundError) {
            EXPECT_EQ(outcome == Outcome::kDifferent, interval.lower() > gammas[i]) << source.name << " " << t;
          }
          decided += t == 299 && outcome != Outcome::kUndecided ? 1 : 0;
        }
      }
      EXPECT_GT(decided, 5) << source.name;
    }
  }
}

TEST(NoiseFloorTest, IsAnUpperLimitAndGammaMustBeAboveIt) {
  const std::vector<double> zeros(206, 0.0);
  EXPECT_NEAR(*NoiseFloor(zeros, 0.01, 0), 0.025, 1e-4);
  EXPECT_FALSE(NoiseFloor({}, 0.01, 0).has_value());
  EXPECT_TRUE(CheckAboveFloor(0.025, 0.0249).has_value());
  for (const double floor : {0.025, 0.03}) {
    const auto checked = CheckAboveFloor(0.025, floor);
    ASSERT_FALSE(checked.has_value());
    EXPECT_EQ(ExitStatus(checked.error().code), 2);
  }
}

}  // namespace
}  // namespace sluice::verify::sequential_test
