#include "verify/sequential_test/bounded_decision.h"

#include <cmath>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::verify::sequential_test {

BoundedTest::BoundedTest(const Settings& settings)
    : settings_(settings),
      below_(Side::kBelow, settings.gamma, settings.population),
      above_(Side::kAbove, settings.gamma, settings.population) {
  SLUICE_CHECK(CheckSettings(settings).has_value());
}

Result<void> BoundedTest::Add(double lower, double upper) {
  if (!(lower >= 0 && lower <= upper && upper <= 1)) {
    invalid_ = true;
    return Fail(ErrorCode::kCorrupt,
                fmt::format("bounds {} and {} of the score of challenge {} are none in [0, 1]: the "
                            "scorer failed, and nothing can be said of the models",
                            lower, upper, num_scores_));
  }
  if (settings_.population > 0 && num_scores_ >= settings_.population) {
    invalid_ = true;
    return Fail(ErrorCode::kCorrupt,
                fmt::format("more scores than the {} challenges of the set", settings_.population));
  }
  below_.Add(upper);
  above_.Add(lower);
  sum_lower_ += lower;
  sum_upper_ += upper;
  ++num_scores_;
  if (outcome_ != Outcome::kUndecided) return {};
  const double target = 1 / settings_.alpha;
  const bool is_below = below_.Reaches(target), is_above = above_.Reaches(target);
  if (is_below == is_above) return {};
  outcome_ = is_below ? Outcome::kSame : Outcome::kDifferent;
  decided_at_ = num_scores_;
  return {};
}

Outcome BoundedTest::outcome() const { return invalid_ || num_scores_ == 0 ? Outcome::kInvalid : outcome_; }

double BoundedTest::log_target() const { return -std::log(settings_.alpha); }

}  // namespace sluice::verify::sequential_test
