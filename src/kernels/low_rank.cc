// Updates of low rank.
//
// Idea: the sums of a few rows by a few vectors of columns stay in registers over all of the rank, so that a number of
// `right` is loaded once for the rows together and `values` is touched once.
#include "kernels/low_rank.h"

#include <cmath>
#include <limits>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/low_rank.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D, uint64_t kRows, uint64_t kVectors>
HWY_INLINE void AddBlock(D d, const LowRankArgs& args, uint64_t row, uint64_t column) {
  constexpr uint64_t kLanes = hn::MaxLanes(D());
  hn::Vec<D> sums[kRows][kVectors];
#pragma GCC unroll 8
  for (uint64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (uint64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Zero(d);
  }
  const float* const left = args.left + row * args.rank;
  for (uint64_t j = 0; j < args.rank; ++j) {
    const float* const right = args.right + j * args.right_stride + column;
    hn::Vec<D> factors[kVectors];
#pragma GCC unroll 8
    for (uint64_t v = 0; v < kVectors; ++v) factors[v] = hn::LoadU(d, right + v * kLanes);
#pragma GCC unroll 8
    for (uint64_t r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, left[r * args.rank + j]);
#pragma GCC unroll 8
      for (uint64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Add(sums[r][v], hn::Mul(factor, factors[v]));
    }
  }
  const auto scale = hn::Set(d, args.scale);
  const auto quiet = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
#pragma GCC unroll 8
  for (uint64_t r = 0; r < kRows; ++r) {
    float* const values = args.values + (row + r) * args.values_stride + column;
#pragma GCC unroll 8
    for (uint64_t v = 0; v < kVectors; ++v) {
      const auto sum = hn::Add(hn::LoadU(d, values + v * kLanes), hn::Mul(scale, sums[r][v]));
      hn::StoreU(hn::IfThenElse(hn::IsNaN(sum), quiet, sum), d, values + v * kLanes);
    }
  }
}

// All columns of some rows: many vectors at once, then one, then single numbers.
template <uint64_t kRows, uint64_t kVectors>
HWY_INLINE void AddRows(const LowRankArgs& args, uint64_t row) {
  using D = hn::CappedTag<float, kMaxVectorBytes / 4>;
  constexpr uint64_t kLanes = hn::MaxLanes(D());
  uint64_t column = 0;
  for (; column + kVectors * kLanes <= args.columns; column += kVectors * kLanes) {
    AddBlock<D, kRows, kVectors>(D(), args, row, column);
  }
  for (; column + kLanes <= args.columns; column += kLanes) AddBlock<D, kRows, 1>(D(), args, row, column);
  using One = hn::CappedTag<float, 1>;
  for (; column < args.columns; ++column) AddBlock<One, kRows, 1>(One(), args, row, column);
}

void AddLowRank(const LowRankArgs& args) {
  uint64_t row = 0;
  for (; row + 4 <= args.rows; row += 4) AddRows<4, 2>(args, row);
  for (; row + 2 <= args.rows; row += 2) AddRows<2, 4>(args, row);
  for (; row < args.rows; ++row) AddRows<1, 8>(args, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(AddLowRank);

void AddLowRank(const LowRankArgs& args) { HWY_DYNAMIC_DISPATCH(AddLowRank)(args); }

namespace reference {

void AddLowRank(const LowRankArgs& args) {
  for (uint64_t row = 0; row < args.rows; ++row) {
    for (uint64_t column = 0; column < args.columns; ++column) {
      float sum = 0;
      for (uint64_t j = 0; j < args.rank; ++j) {
        sum += args.left[row * args.rank + j] * args.right[j * args.right_stride + column];
      }
      float& value = args.values[row * args.values_stride + column];
      value += args.scale * sum;
      if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();
    }
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
