#include "verify/difference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace sluice::verify {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(DifferenceTest, SameValuesKeepsSignsOfZeroAndForgetsPayloads) {
  const float a[] = {1, kNan, -0.0f, kInf};
  float b[] = {1, -kNan, -0.0f, kInf};
  EXPECT_TRUE(SameValues(a, b, 4));
  b[2] = 0.0f;
  EXPECT_FALSE(SameValues(a, b, 4));
  EXPECT_TRUE(SameValues(a, b, 2));
  EXPECT_TRUE(SameValues(a, b, 0));
}

TEST(DifferenceTest, FirstDifferentIsByNumber) {
  const float a[] = {0.0f, kNan, kInf, 3}, b[] = {-0.0f, kNan, kInf, 4};
  EXPECT_EQ(FirstDifferent(a, b, 4), 3u);
  EXPECT_EQ(FirstDifferent(a, b, 2), 2u);  // none: the count
}

TEST(DifferenceTest, ToleranceTakesNoInfinityForClose) {
  const float a[] = {kInf, 1}, b[] = {kInf, 1.5f};
  EXPECT_TRUE(WithinTolerance(a, b, 2, 0.5, 0));
  EXPECT_FALSE(WithinTolerance(a, b, 2, 0.49, 0));
  const float opposite[] = {-kInf, 1};
  EXPECT_FALSE(WithinTolerance(a, opposite, 2, 1e30, 1e30));
  const float finite[] = {1e30f, 1};
  EXPECT_FALSE(WithinTolerance(a, finite, 2, 1e38, 0));
  EXPECT_FALSE(WithinTolerance(finite, a, 2, 1e38, 1));
}

TEST(DifferenceTest, RoundingIsToNearestEven) {
  // 1 + 2^-8 lies half way between two bf16: even is 1.
  const float value[] = {1.00390625f};
  uint8_t bytes[4], raw[2];
  float again[1], decoded[1];
  for (const auto& [stored, expected] : {std::pair{uint16_t{0x3F80}, true}, {uint16_t{0x3F81}, false}}) {
    std::memcpy(raw, &stored, 2);
    quant::BF16()->decode(raw, 1, decoded);
    EXPECT_EQ(IsRounding(quant::BF16(), value, raw, decoded, 1, bytes, again), expected) << stored;
  }
}

TEST(DifferenceTest, StatsOfNothingOfZerosAndOfOpposites) {
  const DifferenceStats same = DifferenceSums{}.ToStats(5);
  EXPECT_EQ(same.relative_l2, 0);
  EXPECT_EQ(same.cosine, 1);
  const DifferenceStats from_zero = DifferenceSums{.b_squared = 4, .difference_squared = 4}.ToStats(5);
  EXPECT_EQ(from_zero.relative_l2, std::numeric_limits<double>::infinity());
  EXPECT_EQ(from_zero.cosine, 0);
  const DifferenceStats opposite =
      DifferenceSums{.a_squared = 4, .b_squared = 4, .product = -4, .difference_squared = 16}.ToStats(5);
  EXPECT_EQ(opposite.relative_l2, 2);
  EXPECT_EQ(opposite.cosine, -1);
}

TEST(DifferenceTest, SumsAddUp) {
  DifferenceSums total{.a_squared = 1, .max_abs = 3, .changed = 2, .nan_a = 1};
  total.Add({.a_squared = 2, .max_abs = 1, .changed = 5, .inf_b = 7});
  EXPECT_EQ(total.a_squared, 3);
  EXPECT_EQ(total.max_abs, 3);
  EXPECT_EQ(total.changed, 7u);
  EXPECT_EQ(total.nan_a, 1u);
  EXPECT_EQ(total.inf_b, 7u);
}

}  // namespace
}  // namespace sluice::verify
