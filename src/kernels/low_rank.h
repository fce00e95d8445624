// What an update of low rank adds to a matrix, in f32:
//
//   values[r][c] += scale * sum_j left[r][j] * right[j][c]
//
// The sum begins at 0, j ascending; products, sums, the scale and the addition are rounded one by one, never fused. So
// a number depends on its own row and column alone: any division of the matrix gives the same bits, and so does every
// target of Highway's that it is dispatched over. A NaN is the quiet one, 0x7FC00000. Arrays need not be aligned and do
// not overlap. Thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

struct LowRankArgs {
  const float* left = nullptr;   // [rows][rank]
  const float* right = nullptr;  // [rank][right_stride]
  uint64_t right_stride = 0;
  uint64_t rows = 0, columns = 0, rank = 0;
  float scale = 1;
  float* values = nullptr;  // [rows][values_stride]
  uint64_t values_stride = 0;
};
void AddLowRank(const LowRankArgs& args);

namespace reference {
void AddLowRank(const LowRankArgs& args);
}  // namespace reference

}  // namespace sluice::kernels
