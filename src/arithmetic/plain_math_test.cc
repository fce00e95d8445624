#include "arithmetic/plain_math.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

// Against the C library, which is within one unit in the last place: 4 epsilon of the value, and of 1 where the
// function has a zero that x cannot hold exactly.
constexpr double kEpsilon = 0x1p-52;

TEST(PlainMath, AgreesWithTheLibrary) {
  for (double x = -20; x <= 20; x += 0.0173) {
    EXPECT_NEAR(PlainSin(x), std::sin(x), 4 * kEpsilon) << x;
    EXPECT_NEAR(PlainCos(x), std::cos(x), 4 * kEpsilon) << x;
    EXPECT_NEAR(PlainExp(x), std::exp(x), 4 * kEpsilon * std::exp(x)) << x;
    const double positive = std::exp(x);
    EXPECT_NEAR(PlainLog(positive), x, 4 * kEpsilon * std::max(1.0, std::fabs(x))) << x;
  }
  for (double x = -1; x <= 1; x += 0.00173) EXPECT_NEAR(PlainAcos(x), std::acos(x), 4 * kEpsilon * 3.2) << x;
  for (const double x : {1e-3, 1e-7, 1e-12}) {
    EXPECT_NEAR(PlainSin(x), std::sin(x), 4 * kEpsilon * x);
    // acos near 1 is an angle whose cosine is x: held to the library, relative.
    EXPECT_NEAR(PlainAcos(1 - x), std::acos(1 - x), 4 * kEpsilon * std::acos(1 - x));
  }
}

TEST(PlainMath, KnowsTheEnds) {
  EXPECT_EQ(PlainAcos(1), 0);
  EXPECT_DOUBLE_EQ(PlainAcos(-1), std::acos(-1.0));
  EXPECT_DOUBLE_EQ(PlainAcos(0), std::acos(0.0));
  EXPECT_EQ(PlainSin(0), 0);
  EXPECT_EQ(PlainCos(0), 1);
  EXPECT_EQ(PlainExp(0), 1);
  EXPECT_EQ(PlainLog(1), 0);
  EXPECT_EQ(PlainExp(-1e9), 0);
  EXPECT_EQ(PlainExp(1e9), INFINITY);
  EXPECT_TRUE(std::isnan(PlainAcos(NAN)));
  EXPECT_TRUE(std::isnan(PlainSin(NAN)));
  EXPECT_TRUE(std::isnan(PlainCos(INFINITY)));
  EXPECT_TRUE(std::isnan(PlainExp(NAN)));
}

}  // namespace
}  // namespace sluice::arithmetic
