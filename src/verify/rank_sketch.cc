#include "verify/rank_sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "base/units.h"
#include "graph/node.h"
#include "kernels/delta_sketch.h"
#include "kernels/narrow_product.h"

namespace sluice::verify {
namespace {

// Sums are below 2^20 each, and fewer than 2^16: 2^(90 + 20 + 16) is in 127 bits.
constexpr int kFractionBits = 90;
constexpr float kTooLarge = 0x1p20f;
constexpr uint64_t kMostSums = uint64_t{1} << 16;
// Matrices of a megabyte or two: half of the width is a quarter of the work at the end.
constexpr uint64_t kWideFrom = 1024;

// Splitmix64's finaliser (Steele, Lea, Flood 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Towards zero; |value| < kTooLarge.
__int128 ToFixed(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23 & 0xFF);
  const int64_t digits = exponent == 0 ? bits & 0x7FFFFF : (bits & 0x7FFFFF) | 0x800000;
  const int shift = std::max(exponent, 1) - 150 + kFractionBits;
  const __int128 size = shift >= 0 ? static_cast<__int128>(digits) << shift : shift > -24 ? digits >> -shift : 0;
  return bits >> 31 != 0 ? -size : size;
}

}  // namespace

bool SketchShape::Fits() const {
  if (rows < kLeast || columns < kLeast || columns > kMostColumns) return false;
  return CeilDiv(rows, kMostBuckets / 2) * (columns / graph::kPieceElements + 2) < kMostSums;
}

uint64_t SketchShape::buckets() const {
  return std::min(rows, rows * columns >= kLargeElements ? kMostBuckets : kMostBuckets / 2);
}

uint64_t SketchShape::width() const {
  const uint64_t most = std::min(rows, columns) >= kWideFrom ? kMostWidth : kMostWidth / 2;
  return std::min(most, RoundUp(columns, kernels::kFoldStep));
}

uint64_t SketchShape::MemoryBytes() const {
  // In the end also S and its Gram matrix, which Eigen copies.
  return buckets() * width() * (sizeof(__int128) + sizeof(double)) + 4 * width() * width() * sizeof(double);
}

std::vector<uint32_t> ColumnSigns(uint64_t columns) {
  std::vector<uint32_t> signs(columns);
  for (uint64_t j = 0; j < columns; ++j) signs[j] = Mix(j) >> 63 != 0 ? 0x80000000u : 0;
  return signs;
}

void RankSketch::Begin(const SketchShape& shape) {
  SLUICE_CHECK(shape.Fits());
  shape_ = shape;
  overflowed_ = false;
  made_ = false;
  std::vector<__int128>().swap(sums_);
}

void RankSketch::Add(uint64_t at, const float* a, const float* b, uint64_t count, std::span<const uint32_t> signs,
                     float* scratch) {
  SLUICE_CHECK(signs.size() >= shape_.columns);
  const uint64_t width = shape_.width();
  while (count > 0) {
    const uint64_t row = at / shape_.columns, column = at % shape_.columns;
    const uint64_t n = std::min(shape_.columns - column, count);
    std::fill_n(scratch, 2 * width, 0.0f);
    kernels::FoldDifference({.a = a, .b = b, .count = n, .column = column, .signs = signs.data(), .width = width},
                            scratch);
    for (uint64_t i = 0; i < width; ++i) scratch[i] += scratch[width + i];
    AddRow(row, scratch);
    at += n;
    a += n;
    b += n;
    count -= n;
  }
}

void RankSketch::AddRow(uint64_t row, const float* folded) {
  const uint64_t width = shape_.width(), buckets = shape_.buckets();
  const uint64_t bucket = shape_.rows <= buckets ? row : (row + Mix(row / buckets)) % buckets;
  const bool negative = Mix(~row) >> 63 != 0;
  if (!made_) {
    const std::lock_guard lock(make_mutex_);
    if (!made_) sums_.resize(buckets * width);
    made_ = true;
  }
  const std::lock_guard lock(mutexes_[bucket % kLocks]);
  __int128* sums = sums_.data() + bucket * width;
  for (uint64_t i = 0; i < width; ++i) {
    if (!(std::fabs(folded[i]) < kTooLarge)) {
      overflowed_ = true;
      return;
    }
    const __int128 value = ToFixed(folded[i]);
    sums[i] += negative ? -value : value;
  }
}

EffectiveRank RankSketch::Finish(uint64_t changed, double squared_ulps) {
  EffectiveRank result;
  if (overflowed_) {
    result.reason = "its differences are too large";
  } else if (sums_.empty()) {
    result.reason = "its numbers are equal";
  } else {
    const uint64_t width = shape_.width(), buckets = shape_.buckets();
    std::vector<double> sketch(sums_.size()), gram(width * width), eigenvalues(width);
    for (size_t i = 0; i < sums_.size(); ++i) sketch[i] = static_cast<double>(sums_[i]) * 0x1p-90;
    std::vector<__int128>().swap(sums_);
    kernels::AddNarrowProduct({.left = sketch.data(),
                               .row_stride = 1,
                               .term_stride = width,
                               .right = sketch.data(),
                               .rows = width,
                               .terms = buckets,
                               .columns = width,
                               .out = gram.data()});
    SymmetricEigenvalues(gram, width, eigenvalues);
    result = RankOf({.eigenvalues = eigenvalues,
                     .rows = buckets,
                     .columns = std::min(width, shape_.columns),
                     .least_dimension = std::min(shape_.rows, shape_.columns),
                     .changed_share = static_cast<double>(changed) / static_cast<double>(shape_.rows * shape_.columns),
                     .squared_ulps = squared_ulps});
  }
  std::vector<__int128>().swap(sums_);
  return result;
}

}  // namespace sluice::verify
