// Sketching the difference of two matrices: a row of it folded into a few numbers as it goes by (docs/verify_tensors.md
// says what that is good for), and how coarse the numbers around it are.
//
// Dispatched over Highway's targets, each with the same bits; thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

constexpr uint64_t kFoldStep = 8;  // widths and shifts are multiples of it

// Where column j = g width + i of a row goes: to sum (FoldShift(g, width) + i) mod width. Columns of one group never
// meet.
inline uint64_t FoldShift(uint64_t group, uint64_t width) {
  const uint64_t hash = group * 0x9E3779B97F4A7C15u;  // the golden ratio's: its high bits are those that mix
  return (hash >> 32) % (width / kFoldStep) * kFoldStep;
}

struct FoldArgs {
  const float* a = nullptr;
  const float* b = nullptr;
  uint64_t count = 0;
  uint64_t column = 0;              // of a[0] and b[0]; all are of one row
  const uint32_t* signs = nullptr;  // of the row's columns, from 0: 0 or 0x80000000
  uint64_t width = 0;               // a multiple of kFoldStep
};

// folded[FoldShift(g) + i] += sign_j (b_j - a_j) in f32, in the order of the columns; 0 where the difference is not
// finite. `folded` has 2 width numbers: whoever reads it adds the second half to the first.
void FoldDifference(const FoldArgs& args, float* folded);

// lanes[i % 16] += max(2^e(a_i), 2^e(b_i), least)^2, with 2^e(x) <= |x| < 2^(e(x) + 1); 0 where either is not finite.
// `least`: a power of two, a normal number. Squares are f32, and so are their sums over runs of kBinadeRun elements,
// which are added to the lanes in f64: pieces of a sum must end at multiples of that. Beyond 2^62 all binades are that
// one, and below 2^-63 they count as 0.
constexpr uint64_t kBinadeRun = 256;
void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes);

namespace reference {
void FoldDifference(const FoldArgs& args, float* folded);
void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes);
}  // namespace reference

}  // namespace sluice::kernels
