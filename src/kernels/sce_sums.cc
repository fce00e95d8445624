// sce, several elements at a time.
//
// Problem: differences, votes and variances of several models in f64, two loops over the models for each number that is
// written.
//
// Idea: a vector of elements goes through all models with its sums in registers; differences are made again where they
// are needed twice, which costs less than to keep them.
#include "kernels/sce_sums.h"

#include <bit>
#include <cmath>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sce_sums.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/wide_floats-inl.h"

#ifndef SLUICE_KERNELS_SCE_SUMS_ONCE
#define SLUICE_KERNELS_SCE_SUMS_ONCE
namespace sluice::kernels {

inline float NarrowCanonical(double value) {
  return std::isnan(value) ? std::bit_cast<float>(0x7FC00000u) : static_cast<float>(value);
}

// The readable form, for elements [at, count).
inline void VariancesFrom(uint64_t at, const float* base, std::span<const float* const> x, uint64_t count,
                          float* variances) {
  const auto n = static_cast<double>(x.size());
  for (; at < count; ++at) {
    const auto difference = [&](size_t m) { return static_cast<double>(x[m][at]) - static_cast<double>(base[at]); };
    double mean = 0, sum = 0;
    for (size_t m = 0; m < x.size(); ++m) mean += difference(m);
    mean /= n;  // of equal differences, exactly that: their variance is 0
    for (size_t m = 0; m < x.size(); ++m) sum += (difference(m) - mean) * (difference(m) - mean);
    variances[at] = NarrowCanonical(sum / n);
  }
}

inline bool IsKept(const uint32_t* bits, uint64_t at) { return bits == nullptr || (bits[at / 32] >> at % 32 & 1) != 0; }

inline void AddSquaresFrom(uint64_t at, const float* base, std::span<const float* const> x, const uint32_t* bits,
                           uint64_t count, double* lanes) {
  for (; at < count; ++at) {
    if (!IsKept(bits, at)) continue;
    for (size_t m = 0; m < x.size(); ++m) {
      const double difference = static_cast<double>(x[m][at]) - static_cast<double>(base[at]);
      lanes[m * kSquareLanes + at % kSquareLanes] += difference * difference;
    }
  }
}

inline void MergeAgreeingFrom(uint64_t at, const float* base, std::span<const float* const> x, const double* weights,
                              const uint32_t* bits, uint64_t count, float* out) {
  for (; at < count; ++at) {
    if (!IsKept(bits, at)) {
      out[at] = base[at];
      continue;
    }
    const auto difference = [&](size_t m) { return static_cast<double>(x[m][at]) - static_cast<double>(base[at]); };
    double vote = 0, mixed = 0, divisor = 0;
    for (size_t m = 0; m < x.size(); ++m) vote += difference(m);
    for (size_t m = 0; m < x.size(); ++m) {
      const double towards = vote >= 0 ? difference(m) : -difference(m);
      const double weight = towards > 0 ? weights[m] : 0 * weights[m];  // a NaN stays one
      mixed += weight * difference(m);
      divisor += weight;
    }
    out[at] = NarrowCanonical(static_cast<double>(base[at]) + mixed / (divisor < 1e-6 ? 1e-6 : divisor));
  }
}

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if !SLUICE_KERNELS_HAS_WIDE_FLOATS

void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances) {
  VariancesFrom(0, base, x, count, variances);
}
void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes) {
  AddSquaresFrom(0, base, x, bits, count, lanes);
}
void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out) {
  MergeAgreeingFrom(0, base, x, weights, bits, count, out);
}

#else

using namespace wide_floats;  // NOLINT: vectors of f64

// Of the elements from `at` on, a multiple of the lanes.
template <class D>
HWY_INLINE hn::Mask<D> KeptAt(D, const uint32_t* bits, uint64_t at) {
  const hn::RebindToUnsigned<D> du;
  const auto word = hn::Set(du, bits[at / 32] >> at % 32);
  return hn::RebindMask(D(), hn::TestBit(word, hn::Shl(hn::Set(du, 1), hn::Iota(du, 0))));
}

void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances) {
  const DD dd;
  const VD n = hn::Set(dd, static_cast<double>(x.size()));
  uint64_t at = 0;
  for (; at + kStep <= count; at += kStep) {
    const VD of_base = WideAt(base + at);
    VD mean = hn::Zero(dd), sum = hn::Zero(dd);
    for (const float* model : x) mean = hn::Add(mean, hn::Sub(WideAt(model + at), of_base));
    mean = hn::Div(mean, n);
    for (const float* model : x) {
      const VD off = hn::Sub(hn::Sub(WideAt(model + at), of_base), mean);
      sum = hn::Add(sum, hn::Mul(off, off));
    }
    hn::StoreU(Narrow(hn::Div(sum, n)), DF(), variances + at);
  }
  VariancesFrom(at, base, x, count, variances);
}

template <bool kMasked>
HWY_INLINE void AddSquaresOf(const float* base, const float* x, const uint32_t* bits, uint64_t count, double* lanes) {
  const DD dd;
  constexpr uint64_t kVectors = kSquareLanes / kStep;
  VD sums[kVectors];
  HWY_UNROLL(4)
  for (uint64_t v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(dd, lanes + v * kStep);
  for (uint64_t i = 0; i < count; i += kSquareLanes) {
    HWY_UNROLL(4)
    for (uint64_t v = 0; v < kVectors; ++v) {
      const uint64_t at = i + v * kStep;
      const VD difference = hn::Sub(WideAt(x + at), WideAt(base + at));
      VD square = hn::Mul(difference, difference);
      if constexpr (kMasked) square = hn::IfThenElseZero(KeptAt(dd, bits, at), square);
      sums[v] = hn::Add(sums[v], square);
    }
  }
  HWY_UNROLL(4)
  for (uint64_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], dd, lanes + v * kStep);
}

void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes) {
  const uint64_t whole = count / kSquareLanes * kSquareLanes;
  for (size_t m = 0; m < x.size(); ++m) {
    double* of_model = lanes + m * kSquareLanes;
    if (bits == nullptr) {
      AddSquaresOf<false>(base, x[m], bits, whole, of_model);
    } else {
      AddSquaresOf<true>(base, x[m], bits, whole, of_model);
    }
  }
  AddSquaresFrom(whole, base, x, bits, count, lanes);
}

void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out) {
  const DD dd;
  const VD zero = hn::Zero(dd), least = hn::Set(dd, 1e-6), sign_bit = hn::Set(dd, -0.0);
  uint64_t at = 0;
  for (; at + kStep <= count; at += kStep) {
    const VD of_base = WideAt(base + at);
    VD vote = zero, mixed = zero, divisor = zero;
    for (const float* model : x) vote = hn::Add(vote, hn::Sub(WideAt(model + at), of_base));
    const VD turn = hn::IfThenZeroElse(hn::Ge(vote, zero), sign_bit);  // makes what agrees positive
    for (size_t m = 0; m < x.size(); ++m) {
      const VD difference = hn::Sub(WideAt(x[m] + at), of_base);
      const auto agrees = hn::Gt(hn::Xor(difference, turn), zero);
      const VD weight = hn::IfThenElse(agrees, hn::Set(dd, weights[m]), hn::Set(dd, 0 * weights[m]));
      mixed = hn::Add(mixed, hn::Mul(weight, difference));
      divisor = hn::Add(divisor, weight);
    }
    const VD by = hn::IfThenElse(hn::Lt(divisor, least), least, divisor);
    const auto merged = Narrow(hn::Add(of_base, hn::Div(mixed, by)));
    if (bits == nullptr) {
      hn::StoreU(merged, DF(), out + at);
    } else {
      hn::StoreU(hn::IfThenElse(KeptAt(DF(), bits, at), merged, hn::LoadU(DF(), base + at)), DF(), out + at);
    }
  }
  MergeAgreeingFrom(at, base, x, weights, bits, count, out);
}

#endif  // SLUICE_KERNELS_HAS_WIDE_FLOATS

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(Variances);
HWY_EXPORT(AddSquares);
HWY_EXPORT(MergeAgreeing);

void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances) {
  HWY_DYNAMIC_DISPATCH(Variances)(base, x, count, variances);
}

void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes) {
  HWY_DYNAMIC_DISPATCH(AddSquares)(base, x, bits, count, lanes);
}

void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(MergeAgreeing)(base, x, weights, bits, count, out);
}

namespace reference {

void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances) {
  VariancesFrom(0, base, x, count, variances);
}

void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes) {
  AddSquaresFrom(0, base, x, bits, count, lanes);
}

void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out) {
  MergeAgreeingFrom(0, base, x, weights, bits, count, out);
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
