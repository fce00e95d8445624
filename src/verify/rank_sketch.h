// RankSketch: what is kept of the difference D = B - A of two matrices while they go by, so that its effective rank can
// be told in the end: S = L D R, with L [buckets, rows] and R [columns, width] of signs, one to a row or column.
//
// R folds the columns into `width` sums (kernels/delta_sketch.h); L adds the rows, with signs, into at most
// kMostBuckets rows. L and R are fixed: the sketch measures, it does not resist someone who builds a D that it cannot
// see. Sums over pieces are of 128-bit integers, so that they do not depend on the order in which pieces come.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "verify/effective_rank.h"

namespace sluice::verify {

struct SketchShape {
  uint64_t rows = 0, columns = 0;  // of D

  static constexpr uint64_t kMostBuckets = 1024, kMostWidth = 128;
  static constexpr uint64_t kLargeElements = uint64_t{1} << 24;  // from here on kMostBuckets, else half of them
  static constexpr uint64_t kLeast = 8;                          // rows or columns
  static constexpr uint64_t kMostColumns = uint64_t{1} << 20;    // of which signs are kept
  // Whether such a matrix can be sketched: not too small, and sums cannot overflow.
  bool Fits() const;
  uint64_t buckets() const;
  uint64_t width() const;
  uint64_t MemoryBytes() const;
};

// signs[j]: of column j, for SketchShape of at most so many columns.
std::vector<uint32_t> ColumnSigns(uint64_t columns);

class RankSketch {
 public:
  static constexpr uint64_t kScratchFloats = 2 * SketchShape::kMostWidth;

  // Forgets what was. Memory is taken by the first Add.
  void Begin(const SketchShape& shape);
  // Elements [at, at + count) of the flat matrices, of which D is b - a; 0 where that is not finite. Thread-safe; in
  // any order, cut anywhere, but results depend on the cuts. `scratch`: kScratchFloats.
  void Add(uint64_t at, const float* a, const float* b, uint64_t count, std::span<const uint32_t> signs,
           float* scratch);
  // After the last Add. `changed`: elements of D that are not 0; `squared_ulps`: as RankEvidence has it. Gives its
  // memory back.
  EffectiveRank Finish(uint64_t changed, double squared_ulps);

 private:
  static constexpr uint64_t kLocks = 32;

  void AddRow(uint64_t row, const float* folded);

  SketchShape shape_;
  std::mutex make_mutex_;
  std::array<std::mutex, kLocks> mutexes_;  // of the buckets by their remainders
  std::atomic<bool> overflowed_{false}, made_{false};
  std::vector<__int128> sums_;  // [buckets][width], in units of 2^-90; there once made_
};

}  // namespace sluice::verify
