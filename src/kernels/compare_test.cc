#include "kernels/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/bytes.h"
#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(Compare, ByHand) {
  const std::vector<float> a = {1, 0.0f, kNaN, kNaN, kInfinity, kInfinity, 5, -3, kNaN};
  const std::vector<float> b = {1, -0.0f, kNaN, 2, kInfinity, -kInfinity, kInfinity, -1, kInfinity};
  DifferenceLanes lanes;
  AccumulateDifference(a.data(), b.data(), a.size(), &lanes);
  EXPECT_EQ(lanes.changed,
            5u);  // NaN and 2, the infinities of unlike sign, 5 and infinity, -3 and -1, NaN and infinity
  EXPECT_EQ(lanes.nan_a, 3u);
  EXPECT_EQ(lanes.nan_b, 1u);
  EXPECT_EQ(lanes.inf_a, 2u);
  EXPECT_EQ(lanes.inf_b, 4u);
  EXPECT_EQ(lanes.a_squared[0], 1.0);
  EXPECT_EQ(lanes.a_squared[7], 9.0);
  EXPECT_EQ(lanes.b_squared[7], 1.0);
  EXPECT_EQ(lanes.product[7], 3.0);
  EXPECT_EQ(lanes.difference_squared[7], 4.0);
  EXPECT_EQ(lanes.max_abs[7], 2.0);
  for (const int i : {2, 3, 4, 5, 6, 8}) {
    EXPECT_EQ(lanes.a_squared[i], 0.0);
    EXPECT_EQ(lanes.max_abs[i], 0.0);
  }
}

TEST(Compare, EveryTarget) {
  for (const bool specials : {false, true}) {
    const std::vector<float> a = OddFloats(8300, 1, specials);
    std::vector<float> b = OddFloats(8300, 2, specials);
    for (size_t i = 0; i < b.size(); i += 3) b[i] = a[i];
    std::vector<uint64_t> counts;
    for (uint64_t count = 0; count <= 200; ++count) counts.push_back(count);
    for (const uint64_t count : {255, 256, 257, 1000, 8192, 8299}) counts.push_back(count);
    for (const uint64_t count : counts) {
      DifferenceLanes expected;
      reference::AccumulateDifference(a.data() + 1, b.data() + 1, count, &expected);
      ForEachTarget([&] {
        DifferenceLanes lanes;
        AccumulateDifference(a.data() + 1, b.data() + 1, count, &lanes);
        ASSERT_EQ(std::memcmp(&lanes, &expected, sizeof(lanes)), 0) << count;
        // In pieces that end at multiples of 16, the same.
        lanes = {};
        const uint64_t first = count / 2 / 16 * 16;
        AccumulateDifference(a.data() + 1, b.data() + 1, first, &lanes);
        AccumulateDifference(a.data() + 1 + first, b.data() + 1 + first, count - first, &lanes);
        ASSERT_EQ(std::memcmp(&lanes, &expected, sizeof(lanes)), 0) << count;
      });
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Compare, AnArrayBesideItself) {
  for (const bool specials : {false, true}) {
    const std::vector<float> a = OddFloats(8300, 1, specials), other = OddFloats(8300, 2, specials);
    for (const uint64_t count : {0, 1, 15, 16, 17, 255, 256, 257, 1000, 8192, 8299}) {
      for (const bool differed_before : {false, true}) {
        DifferenceLanes before, expected;
        if (differed_before) reference::AccumulateDifference(a.data(), other.data(), 64, &before);
        expected = before;
        reference::AccumulateDifference(a.data() + 1, a.data() + 1, count, &expected);
        ForEachTarget([&] {
          DifferenceLanes lanes = before;
          AccumulateDifference(a.data() + 1, a.data() + 1, count, &lanes);
          ASSERT_EQ(std::memcmp(&lanes, &expected, sizeof(lanes)), 0) << count;
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Compare, CountNans) {
  const std::vector<float> a = OddFloats(8300, 1, true);
  EXPECT_GT(reference::CountNans(a.data(), a.size()), 0u);
  for (const uint64_t count : {0, 1, 7, 8, 9, 100, 8299}) {
    ForEachTarget(
        [&] { ASSERT_EQ(CountNans(a.data() + 1, count), reference::CountNans(a.data() + 1, count)) << count; });
  }
}

TEST(Compare, FirstDifferentByte) {
  std::vector<uint8_t> a(20000, 7), b = a;
  EXPECT_EQ(FirstDifference(a.data(), b.data(), a.size()), a.size());
  EXPECT_EQ(FirstDifference(a.data(), b.data(), 0), 0u);
  for (const size_t at : {19999, 12345, 8192, 8191, 4096, 4095, 1, 0}) {
    b[at] = 8;
    EXPECT_EQ(FirstDifference(a.data(), b.data(), a.size()), at);
    EXPECT_EQ(FirstDifference(a.data(), b.data(), at), at);
  }
}

}  // namespace
}  // namespace sluice::kernels
