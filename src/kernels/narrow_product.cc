// Idea: the sums of a few rows by eight columns stay in registers over all terms, so that a number of `right` is loaded
// once for the rows together.
#include "kernels/narrow_product.h"

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/narrow_product.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <uint64_t kRows>
HWY_INLINE void AddRows(const NarrowProductArgs& args, uint64_t row) {
  using D = hn::CappedTag<double, kMaxVectorBytes / 8>;
  const D d;
  constexpr uint64_t kLanes = hn::MaxLanes(D());
  constexpr uint64_t kVectors = kNarrowColumns / kLanes < 2 ? 1 : 2;
  static_assert(kNarrowColumns % (kVectors * kLanes) == 0);
  for (uint64_t column = 0; column < args.columns; column += kVectors * kLanes) {
    hn::Vec<D> sums[kRows][kVectors];
    double* const out = args.out + row * args.columns + column;
#pragma GCC unroll 8
    for (uint64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (uint64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::LoadU(d, out + r * args.columns + v * kLanes);
    }
    const double* left = args.left + row * args.row_stride;
    const double* right = args.right + column;
    for (uint64_t t = 0; t < args.terms; ++t, left += args.term_stride, right += args.columns) {
      hn::Vec<D> factors[kVectors];
#pragma GCC unroll 8
      for (uint64_t v = 0; v < kVectors; ++v) factors[v] = hn::LoadU(d, right + v * kLanes);
#pragma GCC unroll 8
      for (uint64_t r = 0; r < kRows; ++r) {
        const auto factor = hn::Set(d, left[r * args.row_stride]);
#pragma GCC unroll 8
        for (uint64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Add(sums[r][v], hn::Mul(factor, factors[v]));
      }
    }
#pragma GCC unroll 8
    for (uint64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (uint64_t v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, out + r * args.columns + v * kLanes);
    }
  }
}

void AddNarrowProduct(const NarrowProductArgs& args) {
  uint64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) AddRows<4>(args, row);
  for (; row < args.rows; ++row) AddRows<1>(args, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(AddNarrowProduct);

void AddNarrowProduct(const NarrowProductArgs& args) {
  SLUICE_CHECK(args.columns % kNarrowColumns == 0);
  HWY_DYNAMIC_DISPATCH(AddNarrowProduct)(args);
}

namespace reference {

void AddNarrowProduct(const NarrowProductArgs& args) {
  for (uint64_t row = 0; row < args.rows; ++row) {
    for (uint64_t t = 0; t < args.terms; ++t) {
      const double factor = args.left[row * args.row_stride + t * args.term_stride];
      for (uint64_t column = 0; column < args.columns; ++column) {
        args.out[row * args.columns + column] += factor * args.right[t * args.columns + column];
      }
    }
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
