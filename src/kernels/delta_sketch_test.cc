#include "kernels/delta_sketch.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

std::vector<uint32_t> Signs(uint64_t count) {
  std::vector<uint32_t> signs(count);
  for (uint64_t i = 0; i < count; ++i) signs[i] = (i * i / 3) % 2 == 0 ? 0 : 0x80000000u;
  return signs;
}

TEST(DeltaSketch, FoldByHand) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Two groups of a width of 8, which has one shift: columns 1 and 9 meet.
  std::vector<float> a(16), b(16);
  std::vector<uint32_t> signs(16);
  b[1] = 3;
  b[9] = 0.5f;
  signs[9] = 0x80000000u;
  a[2] = 1;
  b[3] = kInfinity;
  a[4] = b[4] = kInfinity;
  ForEachTarget([&] {
    std::vector<float> folded(16);
    FoldDifference({a.data(), b.data(), 16, 0, signs.data(), 8}, folded.data());
    EXPECT_EQ(folded, (std::vector<float>{0, 2.5f, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  });
}

TEST(DeltaSketch, ShiftsTakeEveryPlace) {
  std::vector<int> seen(16);
  for (uint64_t group = 0; group < 4096; ++group) {
    const uint64_t shift = FoldShift(group, 128);
    ASSERT_EQ(shift % kFoldStep, 0u);
    ASSERT_LT(shift, 128u);
    ++seen[shift / kFoldStep];
  }
  // 4096 draws of 16: 256 each; half of it would be 8 standard deviations.
  for (const int count : seen) EXPECT_GT(count, 128);
  EXPECT_EQ(FoldShift(0, 64), 0u);  // a row of one group is not shifted
}

TEST(DeltaSketch, EveryTarget) {
  constexpr uint64_t kColumns = 1500;
  const std::vector<uint32_t> signs = Signs(kColumns);
  for (const bool specials : {false, true}) {
    const std::vector<float> a = OddFloats(kColumns + 1, 1, specials), b = OddFloats(kColumns + 1, 2, specials);
    for (const uint64_t width : {8, 64, 128}) {
      for (const uint64_t column : {0, 1, 7, 8, 63, 64, 129, 1000}) {
        for (const uint64_t count : {0, 1, 7, 8, 9, 64, 65, 200, 500}) {
          // Beginning with what came before: sums go on.
          const std::vector<float> before = OddFloats(2 * width, 3, false);
          std::vector<float> expected = before;
          reference::FoldDifference({a.data() + 1, b.data() + 1, count, column, signs.data(), width}, expected.data());
          ForEachTarget([&] {
            std::vector<float> folded = before;
            FoldDifference({a.data() + 1, b.data() + 1, count, column, signs.data(), width}, folded.data());
            ASSERT_TRUE(SameBits(folded, expected)) << width << " " << column << " " << count;
            // In two pieces, cut anywhere, the same.
            folded = before;
            const uint64_t first = count / 3;
            FoldDifference({a.data() + 1, b.data() + 1, first, column, signs.data(), width}, folded.data());
            FoldDifference(
                {a.data() + 1 + first, b.data() + 1 + first, count - first, column + first, signs.data(), width},
                folded.data());
            ASSERT_TRUE(SameBits(folded, expected)) << width << " " << column << " " << count;
          });
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(DeltaSketch, BinadesByHand) {
  const std::vector<float> a = {1.5f, -0.3f, 0, 4, std::numeric_limits<float>::infinity()}, b = {1, 0.2f, 0, -9, 1};
  ForEachTarget([&] {
    double lanes[16] = {};
    AddSquaredBinades(a.data(), b.data(), a.size(), 0x1p-10f, lanes);
    EXPECT_EQ(lanes[0], 1.0);
    EXPECT_EQ(lanes[1], 0x1p-4);
    EXPECT_EQ(lanes[2], 0x1p-20);
    EXPECT_EQ(lanes[3], 64.0);
    EXPECT_EQ(lanes[4], 0.0);
  });
}

TEST(DeltaSketch, BinadesOnEveryTarget) {
  for (const bool specials : {false, true}) {
    const std::vector<float> a = OddFloats(3000, 4, specials), b = OddFloats(3000, 5, specials);
    for (const uint64_t count : {0, 1, 15, 16, 17, 100, 255, 256, 257, 2816, 2999}) {
      double expected[16] = {};
      reference::AddSquaredBinades(a.data() + 1, b.data() + 1, count, 0x1p-14f, expected);
      ForEachTarget([&] {
        double lanes[16] = {};
        AddSquaredBinades(a.data() + 1, b.data() + 1, count, 0x1p-14f, lanes);
        ASSERT_EQ(std::memcmp(lanes, expected, sizeof(lanes)), 0) << count;
      });
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
