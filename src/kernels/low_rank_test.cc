#include "kernels/low_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

TEST(LowRank, ReferenceByHand) {
  const std::vector<float> left = {1, 2, 3, 4}, right = {0.5f, -1, 8, 0.25f, 2, 8};  // [2][2], [2][3] of which 2 count
  std::vector<float> values = {10, 20, -5, -6};
  reference::AddLowRank({.left = left.data(),
                         .right = right.data(),
                         .right_stride = 3,
                         .rows = 2,
                         .columns = 2,
                         .rank = 2,
                         .scale = 2,
                         .values = values.data(),
                         .values_stride = 2});
  EXPECT_EQ(values, (std::vector<float>{10 + 2 * (0.5f + 0.5f), 20 + 2 * (-1 + 4), -5 + 2 * (1.5f + 1), -6 + 2 * 5}));
}

// Each sum against f64: of r products and r additions, a product with the scale and an addition, each off by at most
// 2^-24 of its result, so by (r + 3) 2^-24 of what the terms add up to in size.
TEST(LowRank, ErrorIsThatOfItsRoundings) {
  const uint64_t rows = 7, columns = 61, rank = 33;
  const std::vector<float> left = OddFloats(rows * rank, 1, false), right = OddFloats(rank * columns, 2, false);
  const std::vector<float> before = OddFloats(rows * columns, 3, false);
  std::vector<float> values = before;
  AddLowRank({.left = left.data(),
              .right = right.data(),
              .right_stride = columns,
              .rows = rows,
              .columns = columns,
              .rank = rank,
              .scale = 1.75f,
              .values = values.data(),
              .values_stride = columns});
  double largest = 0;
  for (uint64_t i = 0; i < values.size(); ++i) {
    double sum = before[i], size = std::fabs(before[i]);
    for (uint64_t j = 0; j < rank; ++j) {
      const double term = 1.75 * left[i / columns * rank + j] * right[j * columns + i % columns];
      sum += term;
      size += std::fabs(term);
    }
    largest = std::max(largest, std::fabs(values[i] - sum) / size);
  }
  EXPECT_LE(largest, (rank + 3) * 0x1p-24);
  EXPECT_GT(largest, 0x1p-27);  // it is f32 that is measured
}

TEST(LowRank, EveryTargetGivesTheReferencesBits) {
  for (const uint64_t rows : {1, 2, 3, 4, 7, 16}) {
    for (const uint64_t columns : {0, 1, 7, 8, 16, 31, 64, 77, 128}) {
      for (const uint64_t rank : {1, 8, 13}) {
        for (const bool specials : {false, true}) {
          const uint64_t right_stride = columns + 3, values_stride = columns + 5;
          const std::vector<float> left = OddFloats(rows * rank + 1, 1, specials);
          const std::vector<float> right = OddFloats(rank * right_stride + 1, 2, false);
          const std::vector<float> before = OddFloats(rows * values_stride + 1, 3, specials);
          std::vector<float> expected = before, values;
          LowRankArgs args = {.left = left.data() + 1,
                              .right = right.data() + 1,
                              .right_stride = right_stride,
                              .rows = rows,
                              .columns = columns,
                              .rank = rank,
                              .scale = 0.3f,
                              .values = expected.data() + 1,
                              .values_stride = values_stride};
          reference::AddLowRank(args);
          ForEachTarget([&] {
            values = before;
            args.values = values.data() + 1;
            AddLowRank(args);
            EXPECT_TRUE(SameBits(values, expected)) << rows << " " << columns << " " << rank;
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
