// e^x and sums of it, several elements at a time.
//
// Problem: arcee_fusion takes two exponentials in f64 of every number, and a group's sums are defined in the order of
// its elements.
//
// Idea: e^x = 2^k e^r, |r| <= ln 2 / 2, by thirteen terms of the series: the first that is left out is under 1e-17.
// Without a branch, four at a time in AVX2. Sums of eight groups go side by side, so that no addition waits.
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
constexpr uint64_t kGroups = 8;  // at a time

HWY_INLINE VD PlainExp(VD x) {
  const DD dd;
  const DU du;
  const VD most = hn::Set(dd, kMostExponent), least = hn::Set(dd, kLeastExponent);
  const auto is_above = hn::Gt(x, most), is_below = hn::Lt(x, least);
  const VD value = hn::IfThenElse(is_below, least, hn::IfThenElse(is_above, most, x));
  const VD shifted = hn::Add(hn::Mul(value, hn::Set(dd, 1 / (kLn2High + kLn2Low))), hn::Set(dd, kRound));
  const VD k = hn::Sub(shifted, hn::Set(dd, kRound));
  const VD high = hn::Sub(value, hn::Mul(k, hn::Set(dd, kLn2High)));
  const VD r = hn::Sub(high, hn::Mul(k, hn::Set(dd, kLn2Low)));
  VD sum = hn::Set(dd, kTerms[0]);
  HWY_UNROLL(13)
  for (int term = 1; term < 14; ++term) sum = hn::Add(hn::Mul(sum, r), hn::Set(dd, kTerms[term]));
  // 2^k: k stands in the low bits.
  const auto scale = hn::ShiftLeft<52>(hn::Add(hn::BitCast(du, shifted), hn::Set(du, 1023)));
  const VD result = hn::Mul(sum, hn::BitCast(dd, scale));
  const VD finite = hn::IfThenZeroElse(is_below, result);
  const VD of_number = hn::IfThenElse(is_above, hn::Set(dd, std::numeric_limits<double>::infinity()), finite);
  return hn::IfThenElse(hn::IsNaN(x), x, of_number);
}

void PlainExps(const double* x, uint64_t count, double* out) {
  const DD dd;
  uint64_t at = 0;
  for (; at + kStep <= count; at += kStep) hn::StoreU(PlainExp(hn::LoadU(dd, x + at)), dd, out + at);
  reference::PlainExps(x + at, count - at, out + at);
}

// The largest of a group; NaN is passed over.
HWY_INLINE double Most(const float* x) {
  const hn::CappedTag<float, kMaxVectorBytes / 4> d;
  constexpr uint64_t kFloats = hn::MaxLanes(hn::CappedTag<float, kMaxVectorBytes / 4>());
  const auto larger = [](auto a, auto b) HWY_ATTR { return hn::IfThenElse(hn::Lt(a, b), b, a); };
  auto most = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (uint64_t i = 0; i < kExpGroup; i += kFloats) most = larger(most, hn::LoadU(d, x + i));
  HWY_ALIGN float lanes[kFloats];
  hn::Store(most, d, lanes);
  float of_all = lanes[0];
  for (uint64_t i = 1; i < kFloats; ++i) of_all = std::max(of_all, lanes[i]);
  return static_cast<double>(of_all);
}

// Up to kGroups.
HWY_INLINE void SumSomeGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums) {
  const DD dd;
  HWY_ALIGN double of_x[kGroups * kExpGroup], of_base[kGroups * kExpGroup], weighted[kGroups * kExpGroup];
  for (uint64_t g = 0; g < num_groups; ++g) {
    const uint64_t first = g * kExpGroup;
    sums[g] = {.x_most = Most(x + first), .x_sum = 0, .base_most = Most(base + first), .base_sum = 0, .differences = 0};
    const VD x_most = hn::Set(dd, sums[g].x_most), base_most = hn::Set(dd, sums[g].base_most);
    for (uint64_t i = first; i < first + kExpGroup; i += kStep) {
      const VD x_value = hn::PromoteTo(dd, hn::LoadU(DF(), x + i));
      const VD base_value = hn::PromoteTo(dd, hn::LoadU(DF(), base + i));
      const VD x_exp = PlainExp(hn::Sub(x_value, x_most));
      hn::Store(x_exp, dd, of_x + i);
      hn::Store(hn::Mul(x_exp, hn::Sub(x_value, base_value)), dd, weighted + i);
      hn::Store(PlainExp(hn::Sub(base_value, base_most)), dd, of_base + i);
    }
  }
  for (uint64_t g = 0; g < num_groups; ++g) {
    GroupExpSums& sum = sums[g];
    for (uint64_t i = g * kExpGroup; i < (g + 1) * kExpGroup; ++i) {
      sum.x_sum += of_x[i];
      sum.differences += weighted[i];
      sum.base_sum += of_base[i];
    }
  }
}

void SumExpGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums) {
  for (uint64_t g = 0; g < num_groups; g += kGroups) {
    SumSomeGroups(x + g * kExpGroup, base + g * kExpGroup, std::min(kGroups, num_groups - g), sums + g);
  }
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
