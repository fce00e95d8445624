// e^x and sums of it, several elements at a time.
//
// Problem: arcee_fusion takes two exponentials in f64 of every number, and a group's sums are defined in the order of
// its elements.
//
// Idea: e^x = 2^k e^r, |r| <= ln 2 / 2, by thirteen terms of the series: the first that is left out is under 1e-17.
// Each term waits for the one before, so twelve vectors go side by side. Eight groups at a time, one to a lane, so that
// their sums need no order across lanes; the numbers are transposed for it. Weights lie close together: where a group's
// smallest number is no further below its largest than an exponent may be, nothing is compared, and where it is so
// close that k is 0, nothing is divided either.
//
// Gain: 1.8 ns an element (two exponentials, three sums) on one core of a Zen 3 (AVX2) of numbers that close together,
// 2.4 of others; 2.75 with eight vectors side by side, 6.5 with one after the other.
#include "kernels/exp_sums.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/exp_sums.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#ifndef SLUICE_KERNELS_EXP_SUMS_ONCE
#define SLUICE_KERNELS_EXP_SUMS_ONCE
namespace sluice::kernels {

constexpr double kMostExponent = 709, kLeastExponent = -693;
// A little less than ln 2 / 2, up to which an exponent is its own remainder.
constexpr double kNearExponent = 0.34;
// In two parts, the first with zeros at its end: k times it is exact for small k.
constexpr double kLn2High = 0x1.62e42fefap-1, kLn2Low = 0x1.cf79abc9e3b39p-40;
constexpr double kRound = 0x1.8p52;  // added and taken away again, it leaves a whole number
// 1 / 13!, 1 / 12! ... 1 / 0!
constexpr double kTerms[] = {
    1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
    1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

void PlainExps(const double* x, uint64_t count, double* out) { reference::PlainExps(x, count, out); }
void SumExpGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums) {
  for (uint64_t g = 0; g < num_groups; ++g) {
    sums[g] = reference::SumExps(x + g * kExpGroup, base + g * kExpGroup, kExpGroup);
  }
}

#else

using DD = hn::CappedTag<double, kMaxVectorBytes / 8>;
using DU = hn::Rebind<uint64_t, DD>;
using DF = hn::Rebind<float, DD>;
using VD = hn::Vec<DD>;

constexpr uint64_t kStep = hn::MaxLanes(DD());
constexpr uint64_t kGroups = 8;               // side by side, one to a lane
constexpr size_t kVectors = kGroups / kStep;  // that a number of each group takes
// Numbers of each group at once: eight or, with four lanes, twelve exponentials are under way, as many as sums have
// registers for and as keep the units busy, each of which wants for the last for six cycles.
constexpr size_t kRows = kStep == 4 ? 3 : kStep > 2 ? 2 : 1;

// What is known of all exponents.
enum class Exponents {
  kAny,
  kInRange,  // numbers from kLeastExponent to kMostExponent
  kNear,     // of a magnitude of kNearExponent at most: k is 0
};

// Each to its exponential, in step: the chains of additions and multiplications are long, and wait for none of the
// others. The same bits whatever is known.
template <Exponents kKnown, size_t kCount>
HWY_INLINE void PlainExpsOf(VD (&x)[kCount]) {
  const DD dd;
  const DU du;
  const VD most = hn::Set(dd, kMostExponent), least = hn::Set(dd, kLeastExponent);
  VD shifted[kCount], r[kCount], sum[kCount];
  HWY_UNROLL(16)
  for (size_t i = 0; i < kCount; ++i) {
    if constexpr (kKnown == Exponents::kNear) {
      r[i] = x[i];
    } else {
      VD value = x[i];
      if constexpr (kKnown == Exponents::kAny) {
        value = hn::IfThenElse(hn::Lt(x[i], least), least, hn::IfThenElse(hn::Gt(x[i], most), most, x[i]));
      }
      shifted[i] = hn::Add(hn::Mul(value, hn::Set(dd, 1 / (kLn2High + kLn2Low))), hn::Set(dd, kRound));
      const VD k = hn::Sub(shifted[i], hn::Set(dd, kRound));
      r[i] = hn::Sub(hn::Sub(value, hn::Mul(k, hn::Set(dd, kLn2High))), hn::Mul(k, hn::Set(dd, kLn2Low)));
    }
    sum[i] = hn::Set(dd, kTerms[0]);
  }
  HWY_UNROLL(1)  // or g++ does one chain after the other
  for (int term = 1; term < 14; ++term) {
    const VD next = hn::Set(dd, kTerms[term]);
    HWY_UNROLL(16)
    for (size_t i = 0; i < kCount; ++i) sum[i] = hn::Add(hn::Mul(sum[i], r[i]), next);
  }
  HWY_UNROLL(16)
  for (size_t i = 0; i < kCount; ++i) {
    if constexpr (kKnown == Exponents::kNear) {
      x[i] = sum[i];
      continue;
    }
    // k stands in the low bits; 2^k times a number is k added to its exponent, where that stays above the subnormal.
    const auto shift = hn::ShiftLeft<52>(hn::BitCast(du, shifted[i]));
    if constexpr (kKnown == Exponents::kInRange) {
      x[i] = hn::BitCast(dd, hn::Add(hn::BitCast(du, sum[i]), shift));
    } else {
      const auto scale = hn::Add(shift, hn::Set(du, uint64_t{1023} << 52));
      const VD finite = hn::IfThenZeroElse(hn::Lt(x[i], least), hn::Mul(sum[i], hn::BitCast(dd, scale)));
      const VD of_number =
          hn::IfThenElse(hn::Gt(x[i], most), hn::Set(dd, std::numeric_limits<double>::infinity()), finite);
      x[i] = hn::IfThenElse(hn::IsNaN(x[i]), x[i], of_number);
    }
  }
}

void PlainExps(const double* x, uint64_t count, double* out) {
  const DD dd;
  uint64_t at = 0;
  for (; at + 4 * kStep <= count; at += 4 * kStep) {
    VD values[4];
    HWY_UNROLL(8)
    for (size_t i = 0; i < 4; ++i) values[i] = hn::LoadU(dd, x + at + i * kStep);
    PlainExpsOf<Exponents::kAny>(values);
    HWY_UNROLL(8)
    for (size_t i = 0; i < 4; ++i) hn::StoreU(values[i], dd, out + at + i * kStep);
  }
  for (; at + kStep <= count; at += kStep) {
    VD values[1] = {hn::LoadU(dd, x + at)};
    PlainExpsOf<Exponents::kAny>(values);
    hn::StoreU(values[0], dd, out + at);
  }
  reference::PlainExps(x + at, count - at, out + at);
}

// to[i][g] = from[g][i], of kGroups groups.
HWY_INLINE void Transpose(const float* from, float* to) {
  const hn::FixedTag<float, 4> d;
  for (uint64_t g = 0; g < kGroups; g += 4) {
    for (uint64_t i = 0; i < kExpGroup; i += 4) {
      const float* first = from + g * kExpGroup + i;
      const auto v0 = hn::LoadU(d, first), v1 = hn::LoadU(d, first + kExpGroup);
      const auto v2 = hn::LoadU(d, first + 2 * kExpGroup), v3 = hn::LoadU(d, first + 3 * kExpGroup);
      const auto low_01 = hn::InterleaveLower(d, v0, v1), high_01 = hn::InterleaveUpper(d, v0, v1);
      const auto low_23 = hn::InterleaveLower(d, v2, v3), high_23 = hn::InterleaveUpper(d, v2, v3);
      hn::Store(hn::ConcatLowerLower(d, low_23, low_01), d, to + i * kGroups + g);
      hn::Store(hn::ConcatUpperUpper(d, low_23, low_01), d, to + (i + 1) * kGroups + g);
      hn::Store(hn::ConcatLowerLower(d, high_23, high_01), d, to + (i + 2) * kGroups + g);
      hn::Store(hn::ConcatUpperUpper(d, high_23, high_01), d, to + (i + 3) * kGroups + g);
    }
  }
}

// The largest of each group, NaN passed over. What is known of the numbers less those.
HWY_INLINE Exponents FindMost(const float* numbers, float* most) {
  const hn::CappedTag<float, HWY_MIN(kGroups, kMaxVectorBytes / 4)> d;
  constexpr uint64_t kFloats = hn::MaxLanes(hn::CappedTag<float, HWY_MIN(kGroups, kMaxVectorBytes / 4)>());
  bool is_near = true, in_range = true;
  for (uint64_t g = 0; g < kGroups; g += kFloats) {
    const auto infinity = hn::Set(d, std::numeric_limits<float>::infinity());
    auto largest = hn::Neg(infinity), smallest = infinity;
    auto is_number = hn::Eq(largest, largest);
    for (uint64_t i = 0; i < kExpGroup; ++i) {
      const auto x = hn::Load(d, numbers + i * kGroups + g);
      largest = hn::IfThenElse(hn::Lt(largest, x), x, largest);
      smallest = hn::IfThenElse(hn::Lt(x, smallest), x, smallest);
      is_number = hn::And(is_number, hn::Eq(x, x));
    }
    hn::Store(largest, d, most + g);
    // An infinity less an infinity is NaN, and nowhere.
    const auto distance = hn::Sub(largest, smallest);
    const auto is_below = [&](double limit) HWY_ATTR {
      const auto within = hn::Lt(distance, hn::Set(d, static_cast<float>(limit)));
      return hn::AllTrue(d, hn::And(is_number, within));
    };
    is_near = is_near && is_below(kNearExponent);
    in_range = in_range && is_below(-kLeastExponent - 1);
  }
  return is_near ? Exponents::kNear : in_range ? Exponents::kInRange : Exponents::kAny;
}

struct VectorSums {
  VD x_sum[kVectors], base_sum[kVectors], differences[kVectors];
};

// Takes numbers [row, row + kNumRows) of each group.
template <Exponents kKnown, size_t kNumRows>
HWY_INLINE void AddRows(const float* x, const float* base, uint64_t row, const VD (&x_largest)[kVectors],
                        const VD (&base_largest)[kVectors], VectorSums* sums) {
  const DD dd;
  const DF df;
  VD exps[kNumRows * 2 * kVectors], of_difference[kNumRows * kVectors];
  HWY_UNROLL(16)
  for (size_t j = 0; j < kNumRows * kVectors; ++j) {
    const size_t v = j % kVectors;
    const VD x_value = hn::PromoteTo(dd, hn::Load(df, x + row * kGroups + j * kStep));
    const VD base_value = hn::PromoteTo(dd, hn::Load(df, base + row * kGroups + j * kStep));
    exps[2 * j] = hn::Sub(x_value, x_largest[v]);
    exps[2 * j + 1] = hn::Sub(base_value, base_largest[v]);
    of_difference[j] = hn::Sub(x_value, base_value);
  }
  PlainExpsOf<kKnown>(exps);
  HWY_UNROLL(16)
  for (size_t j = 0; j < kNumRows * kVectors; ++j) {
    const size_t v = j % kVectors;
    sums->x_sum[v] = hn::Add(sums->x_sum[v], exps[2 * j]);
    sums->differences[v] = hn::Add(sums->differences[v], hn::Mul(exps[2 * j], of_difference[j]));
    sums->base_sum[v] = hn::Add(sums->base_sum[v], exps[2 * j + 1]);
  }
}

template <Exponents kKnown>
HWY_INLINE void SumExpsOf(const float* x, const float* base, const float* x_most, const float* base_most,
                          GroupExpSums* sums) {
  const DD dd;
  const DF df;
  VD x_largest[kVectors], base_largest[kVectors];
  VectorSums of_lanes;
  HWY_UNROLL(8)
  for (size_t v = 0; v < kVectors; ++v) {
    of_lanes.x_sum[v] = of_lanes.base_sum[v] = of_lanes.differences[v] = hn::Zero(dd);
    x_largest[v] = hn::PromoteTo(dd, hn::Load(df, x_most + v * kStep));
    base_largest[v] = hn::PromoteTo(dd, hn::Load(df, base_most + v * kStep));
  }
  uint64_t row = 0;
  for (; row + kRows <= kExpGroup; row += kRows) {
    AddRows<kKnown, kRows>(x, base, row, x_largest, base_largest, &of_lanes);
  }
  if constexpr (kExpGroup % kRows != 0) {
    AddRows<kKnown, kExpGroup % kRows>(x, base, row, x_largest, base_largest, &of_lanes);
  }
  HWY_ALIGN double of_x[kGroups], of_base[kGroups], of_differences[kGroups];
  HWY_UNROLL(8)
  for (size_t v = 0; v < kVectors; ++v) {
    hn::Store(of_lanes.x_sum[v], dd, of_x + v * kStep);
    hn::Store(of_lanes.base_sum[v], dd, of_base + v * kStep);
    hn::Store(of_lanes.differences[v], dd, of_differences + v * kStep);
  }
  for (uint64_t g = 0; g < kGroups; ++g) {
    sums[g] = {.x_most = x_most[g],
               .x_sum = of_x[g],
               .base_most = base_most[g],
               .base_sum = of_base[g],
               .differences = of_differences[g]};
  }
}

// Of kGroups groups.
HWY_INLINE void SumSomeGroups(const float* x, const float* base, GroupExpSums* sums) {
  HWY_ALIGN float of_x[kGroups * kExpGroup], of_base[kGroups * kExpGroup], x_most[kGroups], base_most[kGroups];
  Transpose(x, of_x);
  Transpose(base, of_base);
  const Exponents known_of_x = FindMost(of_x, x_most), known_of_base = FindMost(of_base, base_most);
  if (known_of_x == Exponents::kNear && known_of_base == Exponents::kNear) {
    SumExpsOf<Exponents::kNear>(of_x, of_base, x_most, base_most, sums);
  } else if (known_of_x != Exponents::kAny && known_of_base != Exponents::kAny) {
    SumExpsOf<Exponents::kInRange>(of_x, of_base, x_most, base_most, sums);
  } else {
    SumExpsOf<Exponents::kAny>(of_x, of_base, x_most, base_most, sums);
  }
}

void SumExpGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums) {
  uint64_t g = 0;
  for (; g + kGroups <= num_groups; g += kGroups) SumSomeGroups(x + g * kExpGroup, base + g * kExpGroup, sums + g);
  if (g == num_groups) return;
  HWY_ALIGN float padded_x[kGroups * kExpGroup] = {}, padded_base[kGroups * kExpGroup] = {};
  GroupExpSums padded_sums[kGroups];
  std::copy_n(x + g * kExpGroup, (num_groups - g) * kExpGroup, padded_x);
  std::copy_n(base + g * kExpGroup, (num_groups - g) * kExpGroup, padded_base);
  SumSomeGroups(padded_x, padded_base, padded_sums);
  std::copy_n(padded_sums, num_groups - g, sums + g);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(PlainExps);
HWY_EXPORT(SumExpGroups);

void PlainExps(const double* x, uint64_t count, double* out) { HWY_DYNAMIC_DISPATCH(PlainExps)(x, count, out); }

void SumExpGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums) {
  HWY_DYNAMIC_DISPATCH(SumExpGroups)(x, base, num_groups, sums);
}

namespace reference {

void PlainExps(const double* x, uint64_t count, double* out) {
  for (uint64_t i = 0; i < count; ++i) {
    if (std::isnan(x[i]) || x[i] > kMostExponent || x[i] < kLeastExponent) {
      out[i] = std::isnan(x[i]) ? x[i] : x[i] > 0 ? std::numeric_limits<double>::infinity() : 0;
      continue;
    }
    const double shifted = x[i] * (1 / (kLn2High + kLn2Low)) + kRound;
    const double k = shifted - kRound;
    const double r = (x[i] - k * kLn2High) - k * kLn2Low;
    double sum = kTerms[0];
    for (int term = 1; term < 14; ++term) sum = sum * r + kTerms[term];
    const uint64_t scale = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;  // 2^k: k stands in the low bits
    out[i] = sum * std::bit_cast<double>(scale);
  }
}

GroupExpSums SumExps(const float* x, const float* base, uint64_t count) {
  GroupExpSums sums = {.x_most = -HUGE_VAL, .x_sum = 0, .base_most = -HUGE_VAL, .base_sum = 0, .differences = 0};
  for (uint64_t i = 0; i < count; ++i) {
    sums.x_most = std::max(sums.x_most, static_cast<double>(x[i]));
    sums.base_most = std::max(sums.base_most, static_cast<double>(base[i]));
  }
  for (uint64_t i = 0; i < count; ++i) {
    const double exponents[] = {static_cast<double>(x[i]) - sums.x_most, static_cast<double>(base[i]) - sums.base_most};
    double exps[2];
    PlainExps(exponents, 2, exps);
    sums.x_sum += exps[0];
    sums.differences += exps[0] * (static_cast<double>(x[i]) - static_cast<double>(base[i]));
    sums.base_sum += exps[1];
  }
  return sums;
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
