// Other rules for "is the mean below or above gamma", to compare with. Each keeps its error at alpha for independent
// scores in [0, 1], looking at every time or once. The last does not: it is the shortcut that earlier tools rest on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::sequential_test {

class RivalRule {
 public:
  explicit RivalRule(std::string name) : name_(std::move(name)) {}
  virtual ~RivalRule() = default;
  const std::string& name() const { return name_; }
  virtual Outcome Add(double score) = 0;  // kUndecided, kSame or kDifferent, by all scores so far

 private:
  std::string name_;
};

// exp(b sum(gamma - x) - t b^2 / 8) is a supermartingale by Hoeffding's lemma (1963); b is the best for time n.
class HoeffdingRule : public RivalRule {
 public:
  HoeffdingRule(double gamma, double alpha, uint64_t n)
      : RivalRule("Hoeffding"), gamma_(gamma), target_(-std::log(alpha)), b_(std::sqrt(8 * target_ / n)) {}
  Outcome Add(double score) override {
    ++t_;
    sum_ += gamma_ - score;
    const double cost = static_cast<double>(t_) * b_ * b_ / 8;
    if (b_ * sum_ - cost >= target_) return Outcome::kSame;
    return -b_ * sum_ - cost >= target_ ? Outcome::kDifferent : Outcome::kUndecided;
  }

 private:
  double gamma_, target_, b_, sum_ = 0;
  uint64_t t_ = 0;
};

// Predictable plug-in empirical Bernstein: Waudby-Smith and Ramdas 2024, theorem 2, with alpha for each side.
class EmpiricalBernsteinRule : public RivalRule {
 public:
  EmpiricalBernsteinRule(double gamma, double alpha)
      : RivalRule("empirical Bernstein"), gamma_(gamma), target_(-std::log(alpha)) {}
  Outcome Add(double score) override {
    ++t_;
    const double t = static_cast<double>(t_);
    const double bet = std::min(0.5, std::sqrt(2 * target_ / (variance_ * t * std::log1p(t))));
    const double deviation = score - mean_;
    bets_ += bet;
    bet_scores_ += bet * score;
    costs_ += 4 * deviation * deviation * (-std::log1p(-bet) - bet) / 4;
    sum_ += score;
    mean_ = (0.5 + sum_) / (t + 1);
    squares_ += (score - mean_) * (score - mean_);
    variance_ = (0.25 + squares_) / (t + 1);
    const double centre = bet_scores_ / bets_, width = (target_ + costs_) / bets_;
    if (centre + width <= gamma_) return Outcome::kSame;
    return centre - width >= gamma_ ? Outcome::kDifferent : Outcome::kUndecided;
  }

 private:
  double gamma_, target_;
  double bets_ = 0, bet_scores_ = 0, costs_ = 0, sum_ = 0, squares_ = 0, mean_ = 0.5, variance_ = 0.25;
  uint64_t t_ = 0;
};

// One look, at n: P(mean of n <= x) <= exp(-n kl(x, mu)), x <= mu (Hoeffding 1963, theorem 1).
class FixedNumberRule : public RivalRule {
 public:
  FixedNumberRule(double gamma, double alpha, uint64_t n)
      : RivalRule("fixed n"), gamma_(gamma), target_(-std::log(alpha)), n_(n) {}
  Outcome Add(double score) override {
    sum_ += score;
    if (++t_ < n_) return Outcome::kUndecided;
    const double mean = sum_ / static_cast<double>(n_);
    const double kl = (mean > 0 ? mean * std::log(mean / gamma_) : 0) +
                      (mean < 1 ? (1 - mean) * std::log((1 - mean) / (1 - gamma_)) : 0);
    if (static_cast<double>(n_) * kl < target_) return Outcome::kUndecided;
    return mean < gamma_ ? Outcome::kSame : Outcome::kDifferent;
  }

 private:
  double gamma_, target_, sum_ = 0;
  uint64_t n_, t_ = 0;
};

// "The variance is zero, so the interval has no width": SAME at the first so many scores that are all equal and below
// gamma.
class ZeroVarianceRule : public RivalRule {
 public:
  ZeroVarianceRule(double gamma, uint64_t least) : RivalRule("zero variance"), gamma_(gamma), least_(least) {}
  Outcome Add(double score) override {
    if (t_++ == 0) first_ = score;
    all_equal_ &= score == first_;
    return all_equal_ && t_ >= least_ && first_ < gamma_ ? Outcome::kSame : Outcome::kUndecided;
  }

 private:
  double gamma_, first_ = 0;
  uint64_t least_, t_ = 0;
  bool all_equal_ = true;
};

}  // namespace sluice::verify::sequential_test
