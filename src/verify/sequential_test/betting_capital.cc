#include "verify/sequential_test/betting_capital.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace sluice::verify::sequential_test {
namespace {

constexpr double kUnit = 0x1p512, kInverseUnit = 0x1p-512, kMostPart = 0x1p256, kLeastPart = 0x1p-256;
// A factor is at most 2^50, and one that is not 0 at least 2^-54: 8 of them move a part from [2^-256, 2^256] to no more
// than 2^656 and no less than 2^-688.
constexpr uint64_t kRescaleEvery = 8;
static_assert(kNumBets % 4 == 0);
constexpr double kLeastLevel = 0x1p-50;
// In units of N. Product, sum and difference in N m - sum are wrong by less than 2^-51 N together. The slack goes
// against the bettor: no rounding makes the level one that the null does not imply.
constexpr double kSlack = 0x1p-48;

}  // namespace

double BetShare(int j) { return std::ldexp(j % 2 == 0 ? 1.0 : std::sqrt(0.5), -(j / 2)); }

double BetWeight(Side side, int j) {
  return side == Side::kBelow ? 1.0 / ((j + 1.0) * (j + 2.0)) : 1.0 / (kNumBets + 1);
}

BettingCapital::BettingCapital(Side side, double mean, uint64_t population)
    : side_(side), mean_(mean), population_(population) {
  SLUICE_CHECK(mean > 0 && mean < 1);
  for (int j = 0; j < kNumBets; ++j) {
    shares_[static_cast<size_t>(j)] = BetShare(j);
    parts_[static_cast<size_t>(j)] = BetWeight(side, j);
    in_top_units_[static_cast<size_t>(j)] = 1;
  }
}

double BettingCapital::Level() const {
  double level = mean_;
  if (population_ > 0) {
    const auto all = static_cast<double>(population_), left = static_cast<double>(population_ - seen_);
    const double slack = all * kSlack;
    level = (all * mean_ - (sum_ + sum_error_) + (side_ == Side::kBelow ? -slack : slack)) / left;
  }
  // Both ends move against the bettor too. A level beyond the other end is a null that no score can hurt any more.
  return std::clamp(level, side_ == Side::kBelow ? 0.0 : kLeastLevel, side_ == Side::kBelow ? 1 - kLeastLevel : 1.0);
}

void BettingCapital::Add(double score) {
  SLUICE_CHECK(score >= 0 && score <= 1);
  SLUICE_CHECK(population_ == 0 || seen_ < population_);
  const double level = Level();
  const double gain = side_ == Side::kBelow ? (level - score) / (1 - level) : (score - level) / level;
  for (size_t j = 0; j < kNumBets; ++j) parts_[j] *= 1 + shares_[j] * gain;
  if (++seen_ % kRescaleEvery == 0) Rescale();
  if (population_ == 0) return;
  const double sum = sum_ + score;
  sum_error_ += sum_ >= score ? (sum_ - sum) + score : (score - sum) + sum_;
  sum_ = sum;
  const auto all = static_cast<double>(population_);
  const double missing = all * mean_ - (sum_ + sum_error_);
  refuted_ |= side_ == Side::kBelow ? missing - all * kSlack > static_cast<double>(population_ - seen_)
                                    : missing + all * kSlack < 0;
}

void BettingCapital::Rescale() {
  bool changed = false;
  for (size_t j = 0; j < kNumBets; ++j) {
    if (parts_[j] > kMostPart) {
      parts_[j] *= kInverseUnit;
      ++units_[j];
      changed = true;
    } else if (parts_[j] < kLeastPart && parts_[j] > 0) {
      parts_[j] *= kUnit;
      --units_[j];
      changed = true;
    }
  }
  if (!changed) return;
  top_unit_ = std::max(int64_t{0}, *std::ranges::max_element(units_));  // cash is there
  for (size_t j = 0; j < kNumBets; ++j) {
    const int64_t down = top_unit_ - units_[j];
    in_top_units_[j] = down == 0 ? 1 : down == 1 ? kInverseUnit : 0;
  }
}

double BettingCapital::InTopUnits() const {
  // Four sums side by side: this is done after every score.
  double a = top_unit_ == 0 ? kCash : top_unit_ == 1 ? kCash * kInverseUnit : 0, b = 0, c = 0, d = 0;
  for (size_t j = 0; j < kNumBets; j += 4) {
    a += parts_[j] * in_top_units_[j];
    b += parts_[j + 1] * in_top_units_[j + 1];
    c += parts_[j + 2] * in_top_units_[j + 2];
    d += parts_[j + 3] * in_top_units_[j + 3];
  }
  return (a + b) + (c + d);
}

double BettingCapital::Log() const {
  if (refuted_) return std::numeric_limits<double>::infinity();
  return std::log(InTopUnits()) + static_cast<double>(top_unit_) * std::log(kUnit);
}

bool BettingCapital::Reaches(double target) const {
  if (refuted_ || top_unit_ > 1) return true;  // from 2^(1024 - 688) on
  return InTopUnits() >= (top_unit_ == 0 ? target : target * kInverseUnit);
}

}  // namespace sluice::verify::sequential_test
