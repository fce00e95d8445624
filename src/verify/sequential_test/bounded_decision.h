// BoundedTest: the sequential test where a score is not known but lies between two numbers, lower <= score <= upper: a
// server that gives the likeliest tokens alone, say. DIFFERENT bets on the lower ends, SAME on the upper ones.
//
// The errors are those of SequentialTest, whatever the bounds are and whoever chose them, as long as they hold: either
// capital is at every time at most what the scores themselves would have made of it (docs/api_models.md, "Bounds
// instead of scores"). What is lost is power alone: where the upper ends have a mean above gamma SAME is never said but
// by chance, whatever the scores are.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "verify/sequential_test/betting_capital.h"
#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::sequential_test {

class BoundedTest {
 public:
  explicit BoundedTest(const Settings& settings);  // good ones

  // The next score's bounds, in the order that was committed to. kCorrupt unless 0 <= lower <= upper <= 1, and for one
  // too many: then the test is kInvalid for good, whatever was decided before. O(1).
  Result<void> Add(double lower, double upper);

  Outcome outcome() const;  // decided once and kept; kInvalid before the first score
  uint64_t num_scores() const { return num_scores_; }
  uint64_t decided_at() const { return decided_at_; }  // number of scores; 0: not decided
  double log_capital_same() const { return below_.Log(); }
  double log_capital_different() const { return above_.Log(); }
  double log_target() const;  // ln(1/alpha)
  // Means of the ends.
  double mean_lower() const { return num_scores_ == 0 ? 0 : sum_lower_ / static_cast<double>(num_scores_); }
  double mean_upper() const { return num_scores_ == 0 ? 1 : sum_upper_ / static_cast<double>(num_scores_); }

 private:
  const Settings settings_;
  BettingCapital below_, above_;  // fed with upper ends, and with lower ones
  Outcome outcome_ = Outcome::kUndecided;
  bool invalid_ = false;
  uint64_t num_scores_ = 0, decided_at_ = 0;
  double sum_lower_ = 0, sum_upper_ = 0;
};

}  // namespace sluice::verify::sequential_test
