// Two arrays of numbers side by side: what a cast, a rounding or a tolerance can explain, and sums over what is left.
#pragma once

#include <cstdint>

#include "kernels/compare.h"
#include "quant/encoding.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

// Equal as numbers that a cast must keep: the same bits, or both NaN. +0 and -0 differ: no cast turns one into the
// other.
bool SameValues(const float* x, const float* y, uint64_t count);

// Whether `stored` is `values` rounded to `encoding` (which has an encoder). `decoded` are stored's numbers. Scratch:
// `bytes` for `count` elements of the encoding, `again` for `count` floats.
bool IsRounding(quant::Encoding encoding, const float* values, const uint8_t* stored, const float* decoded,
                uint64_t count, uint8_t* bytes, float* again);

// |a - b| <= atol + rtol |b| for all; equal infinities and pairs of NaN are within any tolerance, one alone within
// none.
bool WithinTolerance(const float* a, const float* b, uint64_t count, double atol, double rtol);

// Least i with a[i] != b[i] as numbers (NaN equals NaN); `count` where there is none.
uint64_t FirstDifferent(const float* a, const float* b, uint64_t count);

// Over one or more blocks of 65,536 elements. Blocks are added in the order of their index: then the bits of the sums
// depend on nothing else.
struct DifferenceSums {
  double a_squared = 0, b_squared = 0, product = 0, difference_squared = 0, max_abs = 0;
  double squared_binades = 0;  // kernels/delta_sketch.h, where a sketch is made
  uint64_t changed = 0, nan_a = 0, nan_b = 0, inf_a = 0, inf_b = 0;

  static DifferenceSums Of(const kernels::DifferenceLanes& block);
  void Add(const DifferenceSums& next);
  DifferenceStats ToStats(uint64_t elements) const;
};

}  // namespace sluice::verify
