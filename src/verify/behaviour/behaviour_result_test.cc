#include "verify/behaviour/behaviour_result.h"

#include <cmath>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::verify::behaviour {
namespace {

using sequential_test::ConfidenceSequence;
using sequential_test::Outcome;
using sequential_test::SequentialTest;
using sequential_test::Settings;
using testing::ElementsAre;

std::vector<double> Scores(size_t count, double most) {
  std::mt19937_64 words(1);
  std::vector<double> scores;
  for (size_t i = 0; i < count; ++i) scores.push_back(most * static_cast<double>(words() >> 11) * 0x1p-53);
  return scores;
}

TEST(EvaluateTest, IsTheSequentialTestOverAllScores) {
  for (const uint64_t population : {uint64_t{0}, uint64_t{500}}) {
    const Settings settings{.population = population};
    for (const size_t count : {1u, 59u, 60u, 61u, 500u}) {
      const std::vector<double> scores = Scores(count, 0.03);
      const Evaluation evaluation = Evaluate(settings, scores);
      SequentialTest test(settings);
      ConfidenceSequence sequence(settings.alpha, population);
      for (const double score : scores) {
        ASSERT_TRUE(test.Add(score).has_value());
        ASSERT_TRUE(sequence.Add(score).has_value());
      }
      EXPECT_EQ(evaluation.outcome, test.outcome());
      EXPECT_EQ(evaluation.decided_at, test.decided_at());
      EXPECT_EQ(evaluation.scored, count);
      ASSERT_EQ(evaluation.path.size(), std::min<size_t>(count, kPathPoints));
      EXPECT_EQ(evaluation.path.back().challenges, count);
      EXPECT_EQ(evaluation.path.back().lower, sequence.lower());
      EXPECT_EQ(evaluation.path.back().upper, sequence.upper());
      EXPECT_EQ(evaluation.path.back().capital_same, test.log_capital_same());
      const PathPoint standing = StandingOf(settings, scores);
      EXPECT_EQ(standing.challenges, count);
      EXPECT_EQ(standing.lower, evaluation.path.back().lower);
      EXPECT_EQ(standing.upper, evaluation.path.back().upper);
      EXPECT_EQ(standing.capital_different, test.log_capital_different());
      for (size_t i = 1; i < evaluation.path.size(); ++i) {
        EXPECT_LT(evaluation.path[i - 1].challenges, evaluation.path[i].challenges);
        EXPECT_LE(evaluation.path[i].upper, evaluation.path[i - 1].upper);
        EXPECT_GE(evaluation.path[i].lower, evaluation.path[i - 1].lower);
      }
    }
  }
}

TEST(EvaluateTest, WhatIsNoScoreIsInvalidWhateverCameBefore) {
  std::vector<double> scores(300, 0.0);
  EXPECT_EQ(Evaluate({}, scores).outcome, Outcome::kSame);
  EXPECT_EQ(Evaluate({}, scores).decided_at, 206u);
  for (const double bad : {std::nan(""), 1.5, -0.1}) {
    scores.back() = bad;
    for (const Evaluation& evaluation : {Evaluate({}, scores), EvaluatePart(scores)}) {
      EXPECT_EQ(evaluation.outcome, Outcome::kInvalid);
      EXPECT_EQ(evaluation.scored, 0u);
      EXPECT_TRUE(evaluation.path.empty());
      EXPECT_FALSE(evaluation.invalid.empty());
    }
  }
  EXPECT_EQ(Evaluate({}, {}).outcome, Outcome::kInvalid);
  EXPECT_FALSE(Evaluate({}, {}).invalid.empty());
}

TEST(EvaluateTest, APartDecidesNothing) {
  const std::vector<double> zeros(500, 0.0);
  const Evaluation evaluation = EvaluatePart(zeros);
  EXPECT_EQ(evaluation.outcome, Outcome::kUndecided);
  EXPECT_EQ(evaluation.decided_at, 0u);
  EXPECT_EQ(evaluation.scored, 500u);
  EXPECT_TRUE(evaluation.path.empty());
}

TEST(MostDifferingTest, LargestFirstThenInOrderAndNoZeros) {
  EXPECT_THAT(MostDiffering(std::vector<double>{0, 0.1, 0.3, 0.1, 0, 0.3}), ElementsAre(2, 5, 1, 3));
  EXPECT_EQ(MostDiffering(Scores(50, 1)).size(), kMostTold);
  EXPECT_TRUE(MostDiffering({}).empty());
}

TEST(PowerTest, NumbersAreThoseOfTheDocument) {
  const Power power = PowerOf({}, 1024);
  EXPECT_EQ(power.least_same_any, 182u);
  EXPECT_EQ(power.least_same, 206u);
  EXPECT_EQ(power.same_at_003, 234u);
  EXPECT_EQ(power.least_different, 2u);
  EXPECT_NEAR(*power.same_gap, 0.00497, 1e-5);
  EXPECT_NEAR(*power.different_gap_01, 0.02743, 1e-5);
  EXPECT_FALSE(PowerOf({}, 205).least_same.has_value());
  EXPECT_FALSE(PowerOf({.gamma = 0.002}, 1024).same_at_003.has_value()) << "0.003 is above it";
  EXPECT_FALSE(PowerOf({.population = 300}, 300).same_gap.has_value());
  EXPECT_EQ(PowerOf({.population = 300}, 300).least_same, 149u);
}

TEST(ReadableTextTest, IsOneLineOfUtf8) {
  EXPECT_EQ(ReadableText("a \xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\x8b"), "a \xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\x8b");
  EXPECT_EQ(ReadableText("a\nb\tc\r\x7f"), "a\\nb\\tc\\x0d\\x7f");
  EXPECT_EQ(ReadableText("\xe2\x82"), "\\xe2\\x82");
  EXPECT_EQ(ReadableText("\xff\x80z"), "\\xff\\x80z");
  EXPECT_EQ(ReadableText("\xc2\x85"), "\\xc2\\x85");
  EXPECT_EQ(ReadableText("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
}

TEST(SentencesTest, SaySoOfEachOutcome) {
  BehaviourResult result;
  result.challenge_tokens = 64;
  const std::vector<double> zeros(300, 0.0), ones(300, 1.0), few(10, 0.0);
  result.evaluation = Evaluate(result.settings, zeros);
  EXPECT_THAT(BehaviourProves(result), testing::HasSubstr("is below 0.025"));
  result.evaluation = Evaluate(result.settings, ones);
  EXPECT_THAT(BehaviourProves(result), testing::HasSubstr("is above 0.025"));
  result.evaluation = Evaluate(result.settings, few);
  EXPECT_THAT(BehaviourProves(result), testing::HasSubstr("lies between 0 and"));
  MakeInvalid("a NaN", &result);
  EXPECT_THAT(BehaviourProves(result), testing::HasSubstr("nothing"));
  result.settings.population = 300;
  result.evaluation = Evaluate(result.settings, zeros);
  EXPECT_THAT(BehaviourDoesNotProve(result), testing::HasSubstr("other prompts"));
}

}  // namespace
}  // namespace sluice::verify::behaviour
