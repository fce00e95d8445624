#include "verify/sequential_test/sequential_decision.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::verify::sequential_test {
namespace {

constexpr double kLeastGamma = 1e-6, kLeastAlpha = 1e-12;
constexpr uint64_t kMostPopulation = uint64_t{1} << 40;

Result<void> CheckScore(double score, uint64_t seen, uint64_t population) {
  if (!(score >= 0 && score <= 1)) {
    return Fail(ErrorCode::kCorrupt, fmt::format("score {} of challenge {} is not in [0, 1]: the scorer failed, and "
                                                 "nothing can be said of the models",
                                                 score, seen));
  }
  if (population > 0 && seen >= population) {
    return Fail(ErrorCode::kCorrupt, fmt::format("more scores than the {} challenges of the set", population));
  }
  return {};
}

}  // namespace

Result<void> CheckSettings(const Settings& settings) {
  if (!(settings.gamma >= kLeastGamma && settings.gamma <= 1 - kLeastGamma)) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--gamma {}: want a mean distance between 1e-6 and 1 - 1e-6, as 0.025", settings.gamma));
  }
  if (!(settings.alpha >= kLeastAlpha && settings.alpha <= 0.5)) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--alpha {}: want a probability between 1e-12 and 0.5, as 0.01", settings.alpha));
  }
  if (settings.population > kMostPopulation) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{} prompts: {} are the most that are supported", settings.population, kMostPopulation));
  }
  return {};
}

const char* OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUndecided:
      return "UNDECIDED";
    case Outcome::kSame:
      return "SAME";
    case Outcome::kDifferent:
      return "DIFFERENT";
    case Outcome::kInvalid:
      return "INVALID";
  }
  return "INVALID";
}

SequentialTest::SequentialTest(const Settings& settings)
    : settings_(settings),
      below_(Side::kBelow, settings.gamma, settings.population),
      above_(Side::kAbove, settings.gamma, settings.population) {
  SLUICE_CHECK(CheckSettings(settings).has_value());
}

Result<void> SequentialTest::Add(double score) {
  if (auto good = CheckScore(score, num_scores_, settings_.population); !good) {
    invalid_ = true;
    return good;
  }
  below_.Add(score);
  above_.Add(score);
  ++num_scores_;
  if (outcome_ != Outcome::kUndecided) return {};
  const double target = 1 / settings_.alpha;
  const bool is_below = below_.Reaches(target), is_above = above_.Reaches(target);
  // Both at once happens at most alpha often, whatever the mean, and says nothing.
  if (is_below == is_above) return {};
  outcome_ = is_below ? Outcome::kSame : Outcome::kDifferent;
  decided_at_ = num_scores_;
  return {};
}

Outcome SequentialTest::outcome() const { return invalid_ || num_scores_ == 0 ? Outcome::kInvalid : outcome_; }

double SequentialTest::log_target() const { return -std::log(settings_.alpha); }

ConfidenceSequence::ConfidenceSequence(double alpha, uint64_t population)
    : target_(1 / alpha), population_(population) {
  SLUICE_CHECK(alpha > 0 && alpha < 1);
}

bool ConfidenceSequence::Refutes(Side side, double mean, uint64_t count) const {
  BettingCapital capital(side, mean, population_);
  for (uint64_t i = 0; i < count; ++i) {
    capital.Add(scores_[i]);
    if (capital.Reaches(target_)) return true;
  }
  return false;
}

Result<void> ConfidenceSequence::Add(double score) {
  if (invalid_) return Fail(ErrorCode::kCorrupt, "a score before this one was none");
  if (auto good = CheckScore(score, scores_.size(), population_); !good) {
    invalid_ = true;
    return good;
  }
  scores_.push_back(score);
  return {};
}

// Capital against a mean m is monotone in m (each factor is, docs/sequential_test.md), and so is whether it ever
// reached the target: a limit is found by bisection. A limit is a mean that has been refuted itself; 0 and 1 stand for
// nothing yet.
ConfidenceSequence::Limits ConfidenceSequence::At(uint64_t count) const {
  Limits limits;
  if (invalid_) return limits;
  SLUICE_CHECK(count <= scores_.size());
  const auto tighten = [&](Side side, double* limit, double kept) {
    while (std::abs(*limit - kept) > kBoundError / 2) {
      const double middle = (*limit + kept) / 2;
      (Refutes(side, middle, count) ? *limit : kept) = middle;
    }
  };
  tighten(Side::kBelow, &limits.upper, 0);
  // Between fixed ends, so that the same means are tried whatever the scores: limits only ever shrink.
  tighten(Side::kAbove, &limits.lower, 1);
  limits.lower = std::min(limits.lower, limits.upper);  // both refuting one mean happens with probability <= 2 alpha
  return limits;
}

Result<double> NoiseFloor(std::span<const double> scores, double alpha, uint64_t population) {
  if (scores.empty()) return Fail(ErrorCode::kCorrupt, "no scores of the model against itself: no noise floor");
  ConfidenceSequence sequence(alpha, population);
  for (const double score : scores) {
    if (auto good = sequence.Add(score); !good) return Fail(good.error());
  }
  return sequence.upper();
}

Result<void> CheckAboveFloor(double gamma, double floor) {
  if (gamma > floor) return {};
  return Fail(ErrorCode::kUsage, fmt::format("--gamma {} is not above {}, the upper limit of what arithmetic alone "
                                             "differs by here: take a larger one, or the same mode on both sides",
                                             gamma, floor));
}

}  // namespace sluice::verify::sequential_test
