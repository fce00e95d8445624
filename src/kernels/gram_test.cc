#include "kernels/gram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

TEST(Gram, PairsAreNumberedInOrder) {
  for (size_t k = 1; k <= 9; ++k) {
    size_t pair = 0;
    for (size_t i = 0; i < k; ++i) {
      for (size_t j = i; j < k; ++j) EXPECT_EQ(GramPair(k, i, j), pair++);
    }
    EXPECT_EQ(GramPairs(k), pair);
  }
}

TEST(Gram, ByHand) {
  const std::vector<float> a = {1, 2, 3, 4, 5}, b = {0, 1, 0, -1, 2};
  const float* const x[] = {a.data(), b.data()};
  std::vector<double> lanes(GramPairs(2) * kGramLanes);
  lanes[0] = 100;
  AccumulateGram(x, 5, lanes.data());
  EXPECT_EQ(lanes, (std::vector<double>{100 + 1 + 25, 4, 9, 16, 0 + 10, 2, 0, -4, 0 + 4, 1, 0, 1}));
}

TEST(Gram, EveryTargetHasTheBitsOfTheReference) {
  for (const size_t k : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 18, 40}) {
    std::vector<std::vector<float>> vectors;
    std::vector<const float*> x;
    for (size_t v = 0; v < k; ++v) vectors.push_back(OddFloats(1100, static_cast<uint32_t>(v), false));
    for (const auto& vector : vectors) x.push_back(vector.data() + 1);
    for (const uint64_t count : {0, 1, 2, 3, 4, 5, 7, 8, 63, 127, 128, 129, 130, 131, 132, 256, 257, 1000, 1099}) {
      std::vector<double> expected(GramPairs(k) * kGramLanes);
      reference::AccumulateGram(x, count, expected.data());
      ForEachTarget([&] {
        std::vector<double> lanes(expected.size());
        AccumulateGram(x, count, lanes.data());
        ASSERT_TRUE(SameBits(lanes, expected)) << k << " vectors of " << count;
        // In pieces that are cut at a multiple of 4, the same.
        std::ranges::fill(lanes, 0);
        const uint64_t first = count / 2 / 4 * 4;
        AccumulateGram(x, first, lanes.data());
        std::vector<const float*> rest = x;
        for (const float*& vector : rest) vector += first;
        AccumulateGram(rest, count - first, lanes.data());
        ASSERT_TRUE(SameBits(lanes, expected)) << k << " vectors of " << count << ", in two pieces";
      });
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gram, WhatIsNotFiniteShows) {
  for (const float odd : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> a(9, 1.0f), b(9, 2.0f);
    b[5] = odd;
    const float* const x[] = {a.data(), b.data()};
    ForEachTarget([&] {
      std::vector<double> lanes(GramPairs(2) * kGramLanes);
      AccumulateGram(x, 9, lanes.data());
      EXPECT_TRUE(std::isfinite(lanes[1]));       // a a
      EXPECT_FALSE(std::isfinite(lanes[4 + 1]));  // a b
      EXPECT_FALSE(std::isfinite(lanes[8 + 1]));  // b b
      EXPECT_TRUE(std::isfinite(lanes[8 + 0]));
    });
  }
}

}  // namespace
}  // namespace sluice::kernels
