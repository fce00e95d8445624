// What differs between two arrays of numbers: the kernels under `verify --level tensors`.
//
// Sums are f64 in 16 lanes as in task_vectors.h, so they do not depend on pieces, threads or instruction set when fed
// in blocks of 65,536. Dispatched; thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

struct DifferenceLanes {
  double a_squared[16] = {}, b_squared[16] = {}, product[16] = {}, difference_squared[16] = {};
  double max_abs[16] = {};  // of a - b, over elements where both are finite
  uint64_t changed = 0;     // a != b as numbers; +0 and -0 count as equal, NaN against NaN as equal
  uint64_t nan_a = 0, nan_b = 0, inf_a = 0, inf_b = 0;
};

// Elements that are not finite on either side count in changed, nan_*, inf_*, and leave the sums alone.
// Element i of the call adds to lane i % 16: pieces of a block must end at multiples of 16.
// a == b, the same array, is allowed and four times as fast.
void AccumulateDifference(const float* a, const float* b, uint64_t count, DifferenceLanes* lanes);

uint64_t CountNans(const float* values, uint64_t count);

namespace reference {
void AccumulateDifference(const float* a, const float* b, uint64_t count, DifferenceLanes* lanes);
uint64_t CountNans(const float* values, uint64_t count);
}  // namespace reference

}  // namespace sluice::kernels
