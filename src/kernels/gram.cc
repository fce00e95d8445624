// Inner products of several vectors with each other.
//
// Problem: a model, its base and seven candidates are nine vectors, 45 products an element; one pair after the other
// reads every vector nine times and widens it to f64 as often.
//
// Idea: 128 elements at a time are widened once, into the first cache. Then two vectors meet four others in registers:
// six loads for eight multiply-adds. At the triangle's edge some products are made for nothing and not stored.
#include "kernels/gram.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gram.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes) {
  reference::AccumulateGram(x, count, lanes);
}

#else

using DD = hn::CappedTag<double, kGramLanes>;
using DH = hn::Rebind<float, DD>;
using VD = hn::Vec<DD>;
constexpr uint64_t kLanes64 = hn::MaxLanes(DD());
constexpr uint64_t kChunk = 128;
constexpr size_t kRows = 2, kColumns = 4;

// Rows i, i + 1 and columns j to j + 3 of n elements, n a multiple of 4. Beyond the last vector: the last once more.
HWY_INLINE void AddTile(const double* values, size_t k, size_t i, size_t j, uint64_t n, double* lanes) {
  const DD dd;
  const double* rows[kRows];
  const double* columns[kColumns];
  for (size_t r = 0; r < kRows; ++r) rows[r] = values + std::min(i + r, k - 1) * kChunk;
  for (size_t c = 0; c < kColumns; ++c) columns[c] = values + std::min(j + c, k - 1) * kChunk;
  const auto is_kept = [&](size_t r, size_t c) { return i + r < k && j + c < k && i + r <= j + c; };
  for (uint64_t first = 0; first < kGramLanes; first += kLanes64) {
    VD sums[kRows][kColumns];
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t c = 0; c < kColumns; ++c) {
        sums[r][c] =
            is_kept(r, c) ? hn::LoadU(dd, lanes + GramPair(k, i + r, j + c) * kGramLanes + first) : hn::Zero(dd);
      }
    }
    for (uint64_t e = first; e < n; e += kGramLanes) {
      const VD row_0 = hn::LoadU(dd, rows[0] + e), row_1 = hn::LoadU(dd, rows[1] + e);
      for (size_t c = 0; c < kColumns; ++c) {
        const VD column = hn::LoadU(dd, columns[c] + e);
        sums[0][c] = hn::MulAdd(row_0, column, sums[0][c]);
        sums[1][c] = hn::MulAdd(row_1, column, sums[1][c]);
      }
    }
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t c = 0; c < kColumns; ++c) {
        if (is_kept(r, c)) hn::StoreU(sums[r][c], dd, lanes + GramPair(k, i + r, j + c) * kGramLanes + first);
      }
    }
  }
}

void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes) {
  const DD dd;
  const DH dh;
  const size_t k = x.size();
  SLUICE_CHECK(k <= kMostGramVectors);
  HWY_ALIGN double values[kMostGramVectors * kChunk];
  for (uint64_t at = 0; at < count; at += kChunk) {
    const uint64_t n = std::min(kChunk, count - at), whole = n / kGramLanes * kGramLanes;
    for (size_t v = 0; v < k; ++v) {
      double* out = values + v * kChunk;
      for (uint64_t e = 0; e < whole; e += kLanes64) {
        hn::StoreU(hn::PromoteTo(dd, hn::LoadU(dh, x[v] + at + e)), dd, out + e);
      }
      // Zeros behind the end add nothing: no sum is ever -0.
      for (uint64_t e = whole; e < n; ++e) out[e] = static_cast<double>(x[v][at + e]);
      for (uint64_t e = n; e % kGramLanes != 0; ++e) out[e] = 0;
    }
    const uint64_t padded = (n + kGramLanes - 1) / kGramLanes * kGramLanes;
    for (size_t i = 0; i < k; i += kRows) {
      for (size_t j = i; j < k; j += kColumns) AddTile(values, k, i, j, padded, lanes);
    }
  }
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(AccumulateGram);

void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes) {
  HWY_DYNAMIC_DISPATCH(AccumulateGram)(x, count, lanes);
}

namespace reference {

void AccumulateGram(std::span<const float* const> x, uint64_t count, double* lanes) {
  const size_t k = x.size();
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = i; j < k; ++j) {
      double* sums = lanes + GramPair(k, i, j) * kGramLanes;
      for (uint64_t e = 0; e < count; ++e) {
        sums[e % kGramLanes] += static_cast<double>(x[i][e]) * static_cast<double>(x[j][e]);
      }
    }
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
