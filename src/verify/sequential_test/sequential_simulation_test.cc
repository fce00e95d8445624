// Simulation: how often the test says SAME where the mean is not below gamma, DIFFERENT where it is not above. Seeded,
// so each figure is the same on every machine. At the mean gamma itself both would be wrong, and it is the hardest
// mean.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "verify/sequential_test/keyed_order.h"
#include "verify/sequential_test/sequential_decision.h"
#include "verify/sequential_test/sequential_power.h"
#include "verify/testing/rival_rules.h"
#include "verify/testing/score_sources.h"

namespace sluice::verify::sequential_test {
namespace {

constexpr int kRuns = 10'000;
constexpr uint64_t kMost = 1024;
constexpr double kGamma = 0.025, kAlpha = 0.01;

double BinomialError(double p) { return std::sqrt(p * (1 - p) / kRuns); }

struct Rates {
  double same = 0, different = 0;
};

// next(t, test, words): the score at time t, 0 first, by all that was seen.
using NextScore = std::function<double(uint64_t, const SequentialTest&, std::mt19937_64*)>;

Rates Simulate(const std::string& name, const Settings& settings, const std::function<NextScore(int run)>& sequence,
               uint64_t most = kMost) {
  std::mt19937_64 words(20'10'09686);
  if (settings.population > 0) most = settings.population;
  int same = 0, different = 0;
  for (int run = 0; run < kRuns; ++run) {
    SequentialTest test(settings);
    const NextScore next = sequence(run);
    for (uint64_t t = 0; t < most && test.decided_at() == 0; ++t) {
      if (!test.Add(next(t, test, &words)).has_value()) {
        ADD_FAILURE() << name << ": a score that is none";
        return {};
      }
    }
    same += test.outcome() == Outcome::kSame ? 1 : 0;
    different += test.outcome() == Outcome::kDifferent ? 1 : 0;
  }
  const Rates rates{static_cast<double>(same) / kRuns, static_cast<double>(different) / kRuns};
  fmt::print("| {:44} | {:6.2f}% ± {:.2f}% | {:6.2f}% ± {:.2f}% |\n", name, 100 * rates.same,
             100 * BinomialError(rates.same), 100 * rates.different, 100 * BinomialError(rates.different));
  return rates;
}

Rates SimulateSource(const ScoreSource& source) {
  return Simulate(source.name, {.gamma = kGamma, .alpha = kAlpha}, [&](int) {
    return [&](uint64_t, const SequentialTest&, std::mt19937_64* words) { return source.draw(words); };
  });
}

// The seed is fixed: these cannot fail by chance. What a rule with an error above alpha would show is in the
// counter-examples below.
void ExpectErrorsKept(const Rates& rates) {
  EXPECT_LE(rates.same, kAlpha);
  EXPECT_LE(rates.different, kAlpha);
}

TEST(SequentialSimulationTest, IndependentScoresAtGamma) {
  for (const ScoreSource& source : {EqualScores(kGamma), UniformScores(kGamma), PowerScores(kGamma),
                                    ParetoScores(kGamma), ZeroInflatedScores(kGamma)}) {
    ExpectErrorsKept(SimulateSource(source));
  }
  // Scores of 0 and 1, for which the probability is known exactly. 4.4 errors: 1 in 100,000.
  const Rates rates = SimulateSource(ZeroOneScores(kGamma));
  const Forecast exact = ZeroOnePower(kGamma, kAlpha, kMost).Of(kGamma);
  ExpectErrorsKept(rates);
  EXPECT_NEAR(rates.same, exact.same, 4.4 * BinomialError(exact.same));
  EXPECT_NEAR(rates.different, exact.different, 4.4 * BinomialError(exact.different));
  EXPECT_LE(exact.same, kAlpha);
  EXPECT_LE(exact.different, kAlpha);
  EXPECT_GE(exact.same, kAlpha / 3) << "an error that is never made is paid for with challenges";
}

// A model that differs strongly, by 1, on 5% of prompts: mean 0.05.
TEST(SequentialSimulationTest, AModelThatDiffersOnFewPrompts) {
  ScoreSource source = ZeroInflatedScores(0.05);
  source.name = "MEAN 0.05: 1 on 5%, else 0";
  const Rates rates = SimulateSource(source);
  EXPECT_LE(rates.same, kAlpha);
  EXPECT_GE(rates.different, 0.5);
}

// The zero-variance shortcut of earlier tools on the same model: SAME whenever the first 14 scores happen to be 0.
TEST(SequentialSimulationTest, TheZeroVarianceShortcutIsWrongHalfOfTheTime) {
  for (const uint64_t least : {14u, 30u}) {
    std::mt19937_64 words(14);
    const ScoreSource source = ZeroInflatedScores(0.05);
    int same = 0;
    for (int run = 0; run < kRuns; ++run) {
      ZeroVarianceRule rule(kGamma, least);
      for (uint64_t t = 0; t < least; ++t) same += rule.Add(source.draw(&words)) == Outcome::kSame ? 1 : 0;
    }
    const double rate = static_cast<double>(same) / kRuns, exact = std::pow(0.95, static_cast<double>(least));
    fmt::print("| {:44} | {:6.2f}% ± {:.2f}% | {:>14} |\n",
               fmt::format("ZERO VARIANCE after {} scores, mean 0.05", least), 100 * rate, 100 * BinomialError(rate),
               "-");
    EXPECT_NEAR(rate, exact, 4.4 * BinomialError(exact));
    EXPECT_GT(rate, 20 * kAlpha);
  }
}

// Fixed sets of 1,024 scores with the mean gamma, made by someone who knows all of this but the key; asked in the order
// of a key of each run.
TEST(SequentialSimulationTest, SetsMadeByAnAdversaryInKeyedOrder) {
  constexpr double kSum = kGamma * static_cast<double>(kMost);  // 25.6
  std::vector<std::pair<std::string, std::vector<double>>> sets;
  std::vector<double> ones(kMost, 0.0);  // as few that are not 0 as can be
  std::fill(ones.begin(), ones.begin() + 25, 1.0);
  ones[25] = kSum - 25;
  sets.emplace_back("set: 25 of 1, one of 0.6, else 0", ones);
  sets.emplace_back("set: half 0, half 2 gamma", std::vector<double>(kMost, 0.0));
  for (size_t i = 0; i < kMost / 2; ++i) sets.back().second[i] = 2 * kGamma;
  // Just below gamma but for a few that make up for it.
  sets.emplace_back("set: just below gamma, and 3 of 1", std::vector<double>(kMost, (kSum - 3) / (kMost - 3)));
  std::fill_n(sets.back().second.begin(), 3, 1.0);
  // Just above, but for zeros.
  sets.emplace_back("set: 1.1 gamma, and 9% of 0", std::vector<double>(kMost, 0.0));
  std::fill_n(sets.back().second.begin(), 931, kSum / 931);
  sets.emplace_back("set: 300 scores, 15 of 0.5", std::vector<double>(300, 0.0));
  std::fill_n(sets.back().second.begin(), 15, 0.5);
  // The orders of each key are the same for all sets of one size.
  std::vector<uint16_t> orders;
  size_t ordered = 0;
  for (const auto& [name, set] : sets) {
    ASSERT_NEAR(std::accumulate(set.begin(), set.end(), 0.0) / static_cast<double>(set.size()), kGamma, 1e-12);
    if (ordered != set.size()) {
      ordered = set.size();
      orders.clear();
      for (int run = 0; run < kRuns; ++run) {
        Nonce key(16);
        for (size_t i = 0; i < 4; ++i) key[i] = static_cast<uint8_t>(run >> (8 * i));
        for (const uint64_t place : KeyedOrder(key, ordered)) orders.push_back(static_cast<uint16_t>(place));
      }
    }
    ExpectErrorsKept(
        Simulate(name, {.gamma = kGamma, .alpha = kAlpha, .population = set.size()}, [&set, &orders](int run) {
          return [&set, order = orders.data() + set.size() * static_cast<size_t>(run)](
                     uint64_t t, const SequentialTest&, std::mt19937_64*) { return set[order[t]]; };
        }));
  }
}

// One who sees every score and all capital, and chooses the next distribution: its mean is gamma or, where it helps, on
// the null's side of it.
TEST(SequentialSimulationTest, AdaptiveSequencesWhoseConditionalMeanKeepsToTheNull) {
  constexpr uint64_t kAdaptive = 600;  // challenges; SAME needs 206 at least
  const Settings settings{.gamma = kGamma, .alpha = kAlpha};
  const auto one_or_none = [](double mean, std::mt19937_64* words) { return Uniform(words) < mean ? 1.0 : 0.0; };
  ExpectErrorsKept(Simulate(
      "adaptive: 0 or 1 until a 1, then gamma", settings,
      [&](int) {
        return [&, lost = false](uint64_t, const SequentialTest&, std::mt19937_64* words) mutable {
          const double score = lost ? kGamma : one_or_none(kGamma, words);
          lost |= score == 1;
          return score;
        };
      },
      kAdaptive));
  // Bold where the capital is low, timid where it is high; and the other way round.
  for (const bool is_bold_below : {true, false}) {
    ExpectErrorsKept(
        Simulate(is_bold_below ? "adaptive: bold while losing" : "adaptive: bold while winning", settings, [&](int) {
          return [&](uint64_t, const SequentialTest& test, std::mt19937_64* words) {
            const double best = std::max(test.log_capital_same(), test.log_capital_different());
            if ((best < 1) == is_bold_below) return one_or_none(kGamma, words);
            return Uniform(words) < 0.5 ? 2 * kGamma : 0.0;
          };
        }));
  }
  ExpectErrorsKept(Simulate(
      "adaptive: bold up to a capital of 10", settings,
      [&](int) {
        return [&, is_rich = false](uint64_t, const SequentialTest& test, std::mt19937_64* words) mutable {
          is_rich |= test.log_capital_same() > std::log(10);
          const double high = is_rich ? 4 * kGamma : 1;
          return Uniform(words) < kGamma / high ? high : 0.0;
        };
      },
      kAdaptive));
  // Makes up for what was: the conditional mean is above gamma after low scores (for SAME), below it after high ones
  // (for DIFFERENT), so the running mean stays near gamma.
  for (const double sign : {1.0, -1.0}) {
    const Rates rates = Simulate(
        sign > 0 ? "adaptive: mean >= gamma, making up" : "adaptive: mean <= gamma, making up", settings,
        [&](int) {
          return [&, sum = 0.0](uint64_t t, const SequentialTest&, std::mt19937_64* words) mutable {
            const double behind = kGamma * static_cast<double>(t) - sum;  // > 0 after low scores
            const double mean = kGamma + sign * std::clamp(sign * behind / 100, 0.0, 0.02);
            const double score = one_or_none(mean, words);
            sum += score;
            return score;
          };
        },
        kAdaptive);
    EXPECT_LE(sign > 0 ? rates.same : rates.different, kAlpha);
  }
}

// Counter-examples: what voids the proof shows.
TEST(SequentialSimulationTest, AnOrderChosenByAnAdversaryDefeatsTheTest) {
  for (const uint64_t population : {uint64_t{0}, kMost}) {
    const Rates rates =
        Simulate(population == 0 ? "ORDERED: ascending, mean 0.05" : "ORDERED: ascending, mean 0.05, as a set",
                 {.gamma = kGamma, .alpha = kAlpha, .population = population}, [&](int run) {
                   std::mt19937_64 words(static_cast<uint64_t>(run));
                   const ScoreSource source = PowerScores(0.05);
                   std::vector<double> scores(kMost);
                   for (double& score : scores) score = source.draw(&words);
                   std::ranges::sort(scores);
                   return [scores = std::move(scores)](uint64_t t, const SequentialTest&, std::mt19937_64*) {
                     return scores[t];
                   };
                 });
    EXPECT_EQ(rates.same, 1);
  }
}

// The rule for a set says what the mean of these 1,024 is. Of challenges drawn from many that is not what was asked: at
// mean gamma it is a coin that falls.
TEST(SequentialSimulationTest, TheRuleForASetSaysNothingOfWhatItWasDrawnFrom) {
  const ScoreSource source = UniformScores(kGamma);
  const Rates rates = Simulate(
      "DRAWN, tested as a set", {.gamma = kGamma, .alpha = kAlpha, .population = kMost},
      [&](int) { return [&](uint64_t, const SequentialTest&, std::mt19937_64* words) { return source.draw(words); }; });
  EXPECT_GT(rates.same, 0.4);
  EXPECT_GT(rates.different, 0.4);
}

// Whoever may choose among 20 keys after seeing what each gives errs about 20 times as often.
TEST(SequentialSimulationTest, AKeyChosenAfterwardsIsNoKey) {
  constexpr int kKeys = 20, kTrials = kRuns / kKeys;
  const ScoreSource source = ZeroOneScores(kGamma);
  std::mt19937_64 words(6);
  int same = 0;
  for (int run = 0; run < kTrials; ++run) {
    bool any = false;
    for (int key = 0; key < kKeys; ++key) {
      SequentialTest test({.gamma = kGamma, .alpha = kAlpha});
      while (test.num_scores() < kMost && test.decided_at() == 0)
        ASSERT_TRUE(test.Add(source.draw(&words)).has_value());
      any |= test.outcome() == Outcome::kSame;
    }
    same += any ? 1 : 0;
  }
  const double once = ZeroOnePower(kGamma, kAlpha, kMost).Of(kGamma).same, exact = 1 - std::pow(1 - once, kKeys);
  const double rate = static_cast<double>(same) / kTrials, error = std::sqrt(exact * (1 - exact) / kTrials);
  fmt::print("| {:44} | {:6.2f}% ± {:.2f}% | {:>14} |\n", fmt::format("BEST OF {} KEYS, 0 or 1", kKeys), 100 * rate,
             100 * error, "-");
  EXPECT_NEAR(rate, exact, 4.4 * error);
  EXPECT_GT(rate, 5 * kAlpha);
}

}  // namespace
}  // namespace sluice::verify::sequential_test
