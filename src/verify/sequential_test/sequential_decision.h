// The sequential test of the level `behaviour`: is the mean score of two models below one tolerance gamma? Two bettors,
// one for each answer (betting_capital.h); whoever first multiplies the capital by 1/alpha decides.
//
//   SAME       the mean is below gamma.  Said falsely, at any time whatever, with probability <= alpha where it is >=
//   gamma. DIFFERENT  the mean is above gamma.  Likewise, where it is <= gamma.
//
// Assumed: scores in [0, 1], and where they come from (Settings::population): drawn each from all challenges, or a
// fixed set in an order drawn uniformly, in both cases by a key that was drawn after the models were fixed. Nothing of
// their distribution. One may stop, look and go on as one likes; one may not leave a score out, change the order, or
// choose among keys: k keys tried err with up to k alpha.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "verify/sequential_test/betting_capital.h"

namespace sluice::verify::sequential_test {

struct Settings {
  double gamma = 0.025;
  double alpha = 0.01;
  uint64_t population =
      0;  // 0: challenges drawn independently; N: a set of N in keyed order, and the verdict is about it
};
// kUsage unless gamma lies in [1e-6, 1 - 1e-6], alpha in [1e-12, 0.5], population below 2^40.
Result<void> CheckSettings(const Settings& settings);

enum class Outcome {
  kUndecided,
  kSame,       // mean < gamma
  kDifferent,  // mean > gamma
  kInvalid,    // no score at all, or one that is none
};
const char* OutcomeName(Outcome outcome);  // "UNDECIDED", ...

class SequentialTest {
 public:
  explicit SequentialTest(const Settings& settings);  // good ones

  // The next score, in the order that was committed to. kCorrupt for what is not in [0, 1] (a NaN) and for one too
  // many: then the test is kInvalid for good, whatever was decided before. O(1).
  Result<void> Add(double score);

  Outcome outcome() const;  // decided once and kept; kInvalid before the first score
  uint64_t num_scores() const { return num_scores_; }
  uint64_t decided_at() const { return decided_at_; }  // number of scores; 0: not decided
  double log_capital_same() const { return below_.Log(); }
  double log_capital_different() const { return above_.Log(); }
  double log_target() const;  // ln(1/alpha)

 private:
  Settings settings_;
  BettingCapital below_, above_;
  Outcome outcome_ = Outcome::kUndecided;
  bool invalid_ = false;
  uint64_t num_scores_ = 0, decided_at_ = 0;
};

// The same bets against every mean at once: the means that neither bettor has refuted so far, an interval that only
// shrinks. P(some upper() ever falls below the true mean) <= alpha; likewise lower(): both hold with 1 - 2 alpha. The
// test says SAME exactly when upper() <= gamma, DIFFERENT when lower() >= gamma, but for kBoundError. Keeps all scores:
// 8 bytes each. Add is O(1); limits are found when they are asked for, each by 31 runs through the scores.
class ConfidenceSequence {
 public:
  static constexpr double kBoundError = 1e-9;  // limits are wide by so much at most

  ConfidenceSequence(double alpha, uint64_t population);
  Result<void> Add(double score);  // as SequentialTest::Add; after an error the interval is [0, 1]
  uint64_t num_scores() const { return scores_.size(); }

  struct Limits {
    double lower = 0, upper = 1;
  };
  // As they were after the first `count` scores.
  Limits At(uint64_t count) const;
  double lower() const { return At(num_scores()).lower; }
  double upper() const { return At(num_scores()).upper; }

 private:
  // Whether the capital against this mean has reached the target within the first `count` scores.
  bool Refutes(Side side, double mean, uint64_t count) const;

  double target_;
  uint64_t population_;
  std::vector<double> scores_;
  bool invalid_ = false;
};

// Upper limit, at confidence 1 - alpha, of the mean of scores of a model against itself in other arithmetic. kCorrupt
// for no scores, or bad ones.
Result<double> NoiseFloor(std::span<const double> scores, double alpha, uint64_t population);
// kUsage where gamma is at or below the floor: what arithmetic does would be told as a difference, or hide one.
Result<void> CheckAboveFloor(double gamma, double floor);

}  // namespace sluice::verify::sequential_test
