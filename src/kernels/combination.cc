// Inner products and linear combinations in f64, several elements at a time.
//
// Problem: slerp and its kin want the products of all pairs of a tensor's inputs, each sum in an order that no cut of
// the tensor changes, and must keep up with a disk.
//
// Idea: element i belongs to lane i % 8, so eight elements are two AVX2 vectors of f64 and no sum is ever turned. A
// chunk of each vector is widened once into a buffer that stays in the first cache; then four pairs at a time run down
// it, their sums in registers, so that one addition need not wait for the last. A combination keeps its sum in a
// register over all inputs.
#include "kernels/combination.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/combination.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/wide_floats-inl.h"

#ifndef SLUICE_KERNELS_COMBINATION_ONCE
#define SLUICE_KERNELS_COMBINATION_ONCE
namespace sluice::kernels {

// Elements [at, count) of Combine.
inline void CombineFrom(uint64_t at, const float* base, std::span<const float* const> x, const double* const* factors,
                        bool by_element, uint64_t count, float* out) {
  for (; at < count; ++at) {
    double sum = base == nullptr ? -0.0 : static_cast<double>(base[at]);
    for (size_t m = 0; m < x.size(); ++m) {
      const auto of_model = static_cast<double>(x[m][at]);
      const double value = base == nullptr ? of_model : of_model - static_cast<double>(base[at]);
      sum += factors[m][by_element ? at : 0] * value;
    }
    out[at] = std::isnan(sum) ? std::bit_cast<float>(0x7FC00000u) : static_cast<float>(sum);
  }
}

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if !SLUICE_KERNELS_HAS_WIDE_FLOATS

void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes) {
  reference::AddInnerProducts(base, x, first_element, count, lanes);
}
void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out) {
  reference::Combine(base, x, factors, by_element, count, out);
}

#else

using namespace wide_floats;  // NOLINT: vectors of f64

constexpr uint64_t kVectors = kProductLanes / kStep;  // of a row of lanes
constexpr uint64_t kBufferDoubles = 3072;
constexpr uint64_t kMostChunk = 256;

// lanes[t] += a b_t for kTile vectors b, `stride` apart.
template <size_t kTile>
HWY_INLINE void AddProducts(const double* a, const double* b, uint64_t stride, uint64_t count, double* lanes) {
  const DD dd;
  VD sums[kTile][kVectors];
  HWY_UNROLL(4)
  for (size_t t = 0; t < kTile; ++t) {
    HWY_UNROLL(4)
    for (size_t v = 0; v < kVectors; ++v) sums[t][v] = hn::LoadU(dd, lanes + t * kProductLanes + v * kStep);
  }
  for (uint64_t i = 0; i < count; i += kProductLanes) {
    HWY_UNROLL(4)
    for (size_t v = 0; v < kVectors; ++v) {
      const VD of_a = hn::Load(dd, a + i + v * kStep);
      HWY_UNROLL(4)
      for (size_t t = 0; t < kTile; ++t) {
        sums[t][v] = hn::Add(sums[t][v], hn::Mul(of_a, hn::Load(dd, b + t * stride + i + v * kStep)));
      }
    }
  }
  HWY_UNROLL(4)
  for (size_t t = 0; t < kTile; ++t) {
    HWY_UNROLL(4)
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[t][v], dd, lanes + t * kProductLanes + v * kStep);
  }
}

void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes) {
  const DD dd;
  const uint64_t k = x.size();
  const uint64_t chunk =
      std::min(kMostChunk, kBufferDoubles / std::max<uint64_t>(k, 1) / kProductLanes * kProductLanes);
  const uint64_t head = std::min(count, (kProductLanes - first_element % kProductLanes) % kProductLanes);
  reference::AddInnerProducts(base, x, first_element, chunk == 0 ? count : head, lanes);
  if (chunk == 0) return;  // of more vectors than there are in the world
  HWY_ALIGN double values[kBufferDoubles];
  uint64_t at = head;
  while (count - at >= kProductLanes) {
    const uint64_t n = std::min(chunk, (count - at) / kProductLanes * kProductLanes);
    for (uint64_t m = 0; m < k; ++m) {
      const float *from = x[m] + at, *less = base + at;
      double* to = values + m * chunk;
      if (base == nullptr) {
        for (uint64_t i = 0; i < n; i += kStep) hn::Store(WideAt(from + i), dd, to + i);
      } else {
        for (uint64_t i = 0; i < n; i += kStep) hn::Store(hn::Sub(WideAt(from + i), WideAt(less + i)), dd, to + i);
      }
    }
    double* of_pairs = lanes;
    for (uint64_t j = 0; j < k; ++j) {
      const double* a = values + j * chunk;
      for (uint64_t next = j; next < k;) {
        const double* b = values + next * chunk;
        const uint64_t tile = std::min<uint64_t>(k - next, 4);
        if (tile == 4) AddProducts<4>(a, b, chunk, n, of_pairs);
        if (tile == 3) AddProducts<3>(a, b, chunk, n, of_pairs);
        if (tile == 2) AddProducts<2>(a, b, chunk, n, of_pairs);
        if (tile == 1) AddProducts<1>(a, b, chunk, n, of_pairs);
        of_pairs += tile * kProductLanes;
        next += tile;
      }
    }
    at += n;
  }
  if (at == count) return;
  const float* rest[kBufferDoubles / kProductLanes];  // chunk > 0: no more than these
  for (uint64_t m = 0; m < k; ++m) rest[m] = x[m] + at;
  reference::AddInnerProducts(base == nullptr ? nullptr : base + at, {rest, k}, first_element + at, count - at, lanes);
}

template <bool kByElement, bool kHasBase>
HWY_INLINE void CombineVectors(const float* base, std::span<const float* const> x, const double* const* factors,
                               uint64_t count, float* out) {
  const DD dd;
  const DF df;
  for (uint64_t i = 0; i < count; i += 2 * kStep) {
    const VD base_0 = kHasBase ? WideAt(base + i) : hn::Set(dd, -0.0);
    const VD base_1 = kHasBase ? WideAt(base + i + kStep) : hn::Set(dd, -0.0);
    VD sum_0 = base_0, sum_1 = base_1;
    for (size_t m = 0; m < x.size(); ++m) {
      VD v_0 = WideAt(x[m] + i), v_1 = WideAt(x[m] + i + kStep);
      if constexpr (kHasBase) {
        v_0 = hn::Sub(v_0, base_0);
        v_1 = hn::Sub(v_1, base_1);
      }
      const VD factor_0 = kByElement ? hn::LoadU(dd, factors[m] + i) : hn::Set(dd, factors[m][0]);
      const VD factor_1 = kByElement ? hn::LoadU(dd, factors[m] + i + kStep) : factor_0;
      sum_0 = hn::Add(sum_0, hn::Mul(factor_0, v_0));
      sum_1 = hn::Add(sum_1, hn::Mul(factor_1, v_1));
    }
    hn::StoreU(Narrow(sum_0), df, out + i);
    hn::StoreU(Narrow(sum_1), df, out + i + kStep);
  }
}

void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out) {
  const uint64_t whole = count / (2 * kStep) * (2 * kStep);
  if (by_element && base != nullptr) CombineVectors<true, true>(base, x, factors, whole, out);
  if (by_element && base == nullptr) CombineVectors<true, false>(base, x, factors, whole, out);
  if (!by_element && base != nullptr) CombineVectors<false, true>(base, x, factors, whole, out);
  if (!by_element && base == nullptr) CombineVectors<false, false>(base, x, factors, whole, out);
  CombineFrom(whole, base, x, factors, by_element, count, out);
}

#endif  // SLUICE_KERNELS_HAS_WIDE_FLOATS

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(AddInnerProducts);
HWY_EXPORT(Combine);

void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes) {
  HWY_DYNAMIC_DISPATCH(AddInnerProducts)(base, x, first_element, count, lanes);
}

void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(Combine)(base, x, factors, by_element, count, out);
}

namespace reference {

void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes) {
  const auto value = [&](size_t m, uint64_t i) {
    const auto of_model = static_cast<double>(x[m][i]);
    return base == nullptr ? of_model : of_model - static_cast<double>(base[i]);
  };
  for (size_t j = 0; j < x.size(); ++j) {
    for (size_t k = j; k < x.size(); ++k, lanes += kProductLanes) {
      for (uint64_t i = 0; i < count; ++i) lanes[(first_element + i) % kProductLanes] += value(j, i) * value(k, i);
    }
  }
}

void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out) {
  CombineFrom(0, base, x, factors, by_element, count, out);
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
