#include "verify/behaviour/behaviour_result.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "formats/json_reader.h"
#include "verify/sequential_test/sequential_power.h"

namespace sluice::verify::behaviour {
namespace {

using sequential_test::Outcome;
using sequential_test::Side;

constexpr double kPlanningProbability = 0.9;
constexpr double kSmallScore = 0.003;

std::string Percent(double share) { return fmt::format("{:.6g}%", 100 * share); }

std::string Population(const BehaviourResult& result) {
  if (result.settings.population > 0) {
    return fmt::format("over the {} prompts", FormatCount(result.settings.population));
  }
  return fmt::format("over all challenges of {} tokens drawn as committed", FormatCount(result.challenge_tokens));
}

}  // namespace

Power PowerOf(const sequential_test::Settings& settings, uint64_t challenges) {
  using namespace sequential_test;
  Power power;
  power.least_same_any = LeastPossible(Side::kBelow, settings);
  power.least_different_any = LeastPossible(Side::kAbove, settings);
  power.least_same = ChallengesForEqualScores(settings, 0, challenges);
  power.least_different = ChallengesForEqualScores(settings, 1, challenges);
  if (kSmallScore < settings.gamma) power.same_at_003 = ChallengesForEqualScores(settings, kSmallScore, challenges);
  if (settings.population > 0 || challenges > Power::kMostForGaps) return power;
  power.same_gap = SmallestGapOfEqualScores(Side::kBelow, settings, challenges);
  power.different_gap = SmallestGapOfEqualScores(Side::kAbove, settings, challenges);
  const ZeroOnePower of_ones(settings.gamma, settings.alpha, challenges);
  power.same_gap_01 = of_ones.SmallestGap(Side::kBelow, kPlanningProbability);
  power.different_gap_01 = of_ones.SmallestGap(Side::kAbove, kPlanningProbability);
  return power;
}

Evaluation Evaluate(const sequential_test::Settings& settings, std::span<const double> scores) {
  Evaluation evaluation;
  sequential_test::SequentialTest test(settings);
  sequential_test::ConfidenceSequence sequence(settings.alpha, settings.population);
  double sum = 0;
  const uint64_t count = scores.size();
  for (uint64_t i = 0; i < count; ++i) {
    auto added = test.Add(scores[i]);
    if (added) added = sequence.Add(scores[i]);
    if (!added) {
      evaluation = {};
      evaluation.invalid = added.error().ToString();
      return evaluation;
    }
    sum += scores[i];
    evaluation.largest = std::max(evaluation.largest, scores[i]);
    const uint64_t done = i + 1;
    // Points at equal distances, the last of them of all scores.
    if (done * kPathPoints / count != i * kPathPoints / count || count <= kPathPoints) {
      evaluation.path.push_back({done, 0, 1, test.log_capital_same(), test.log_capital_different()});
    }
  }
  for (PathPoint& point : evaluation.path) {
    const auto limits = sequence.At(point.challenges);
    point.lower = limits.lower;
    point.upper = limits.upper;
  }
  evaluation.outcome = test.outcome();
  evaluation.decided_at = test.decided_at();
  evaluation.scored = count;
  if (count > 0) evaluation.mean = sum / static_cast<double>(count);
  if (evaluation.outcome == Outcome::kInvalid) evaluation.invalid = "no challenge was asked";
  return evaluation;
}

PathPoint StandingOf(const sequential_test::Settings& settings, std::span<const double> scores) {
  sequential_test::SequentialTest test(settings);
  sequential_test::ConfidenceSequence sequence(settings.alpha, settings.population);
  for (const double score : scores) {
    SLUICE_CHECK(test.Add(score).has_value());
    SLUICE_CHECK(sequence.Add(score).has_value());
  }
  const auto limits = sequence.At(scores.size());
  return {scores.size(), limits.lower, limits.upper, test.log_capital_same(), test.log_capital_different()};
}

Evaluation EvaluatePart(std::span<const double> scores) {
  // Any test that takes all of them: what is no score is found there.
  Evaluation evaluation = Evaluate({.gamma = 0.5, .alpha = 0.5, .population = 0}, scores);
  if (evaluation.outcome == Outcome::kInvalid) return evaluation;
  evaluation.outcome = Outcome::kUndecided;
  evaluation.decided_at = 0;
  evaluation.path.clear();
  return evaluation;
}

std::string ReadableText(std::string_view bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const auto byte = static_cast<uint8_t>(bytes[at]);
    // A character of one to four bytes, if it is one.
    const size_t size = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    const std::string_view character = bytes.substr(at, size);
    const bool is_c1 = size == 2 && byte == 0xc2 && character.size() == 2 && static_cast<uint8_t>(character[1]) < 0xa0;
    if (byte == '\n') {
      text += "\\n";
    } else if (byte == '\t') {
      text += "\\t";
    } else if (byte >= 0x20 && byte != 0x7f && !is_c1 && character.size() == size &&
               !formats::FirstInvalidUtf8(character)) {
      text += character;
      at += size - 1;
    } else {
      text += fmt::format("\\x{:02x}", byte);
    }
    ++at;
  }
  return text;
}

std::vector<uint64_t> MostDiffering(std::span<const double> scores) {
  std::vector<uint64_t> places(scores.size());
  std::iota(places.begin(), places.end(), uint64_t{0});
  std::erase_if(places, [&](uint64_t place) { return !(scores[place] > 0); });
  std::ranges::stable_sort(places, [&](uint64_t x, uint64_t y) { return scores[x] > scores[y]; });
  if (places.size() > kMostTold) places.resize(kMostTold);
  return places;
}

void MakeInvalid(std::string why, BehaviourResult* result) {
  result->scores.clear();
  result->most_differing.clear();
  result->evaluation = {};
  result->evaluation.invalid = std::move(why);
}

std::string BehaviourProves(const BehaviourResult& result) {
  const Evaluation& evaluation = result.evaluation;
  if (result.is_part() && evaluation.invalid.empty()) {
    return fmt::format("nothing by itself: {} of {} challenges; `sluice verify --join` puts the parts together",
                       FormatCount(evaluation.scored), FormatCount(result.challenges));
  }
  const auto mean_is = [&](const char* where) {
    return fmt::format(
        "the total variation between their next-token distributions, averaged {}, is {} {}; said falsely "
        "with a probability of {} at most, whenever one stops",
        Population(result), where, result.settings.gamma, Percent(result.settings.alpha));
  };
  switch (evaluation.outcome) {
    case Outcome::kSame:
      return mean_is("below");
    case Outcome::kDifferent:
      return mean_is("above");
    case Outcome::kUndecided:
      return fmt::format("that average lies between {:.6g} and {:.6g}, with a confidence of {}",
                         evaluation.path.back().lower, evaluation.path.back().upper,
                         Percent(1 - 2 * result.settings.alpha));
    case Outcome::kInvalid:
      break;
  }
  return "nothing: the run failed, and a failure is no answer";
}

std::string BehaviourDoesNotProve(const BehaviourResult& result) {
  if (result.is_part() && result.evaluation.invalid.empty()) return "that the models are the same, or that they differ";
  switch (result.evaluation.outcome) {
    case Outcome::kSame:
      return result.settings.population > 0
                 ? "anything about other prompts: who knew these could make a model that is equal on them alone"
                 : "that no prompt shows a difference: one that a rare trigger brings out adds less than gamma; "
                   "--level tensors reads every byte";
    case Outcome::kDifferent:
      return "which of the two is better, or where they differ: --level tensors compares the weights";
    case Outcome::kUndecided:
      return "that the models are the same within gamma, or that they are not: more challenges settle smaller gaps";
    case Outcome::kInvalid:
      break;
  }
  return "that the models are the same, or that they differ";
}

}  // namespace sluice::verify::behaviour
