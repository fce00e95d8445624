#include "kernels/exp_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

bool Same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

TEST(ExpSums, ExponentialsAtEveryTarget) {
  std::vector<double> x = {0, -0.0, 1, -1, 709, 709.5, 1e9, -693, -693.5, -1e9, INFINITY, -INFINITY, NAN, 1e-300, 0.5};
  for (int i = -700; i < 720; i += 3) x.push_back(i * 1.0137);
  std::vector<double> expected(x.size());
  reference::PlainExps(x.data(), x.size(), expected.data());
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] > 709 || x[i] < -693 || std::isnan(x[i])) continue;
    EXPECT_NEAR(expected[i] / std::exp(x[i]), 1, 1e-15) << x[i];
  }
  EXPECT_EQ(expected[0], 1);
  EXPECT_EQ(expected[5], INFINITY);
  EXPECT_EQ(expected[8], 0);
  ForEachTarget([&] {
    for (uint64_t count = 0; count <= x.size(); count += count < 20 ? 1 : 57) {
      std::vector<double> exps(x.size());
      PlainExps(x.data(), count, exps.data());
      for (size_t i = 0; i < count; ++i) ASSERT_TRUE(Same(exps[i], expected[i])) << x[i];
    }
  });
}

TEST(ExpSums, GroupsAtEveryTarget) {
  constexpr uint64_t kGroups = 19;
  // As weights are; close together, as close as is looked at by itself and a little less; some exponents out of range;
  // one number that is none, of any group.
  enum Kind { kPlain, kClose, kEdge, kFar, kSpecials, kOneNaN, kOneInfinity };
  for (const Kind kind : {kPlain, kClose, kEdge, kFar, kSpecials, kOneNaN, kOneInfinity}) {
    std::vector<float> x = OddFloats(kGroups * kExpGroup + 1, 1, kind == kSpecials);
    std::vector<float> base = OddFloats(x.size(), 2, kind == kSpecials);
    if (kind == kClose || kind == kEdge) {
      for (std::vector<float>* numbers : {&x, &base}) {
        for (size_t i = 0; i < x.size(); ++i) {
          float& number = (*numbers)[i];
          number = std::fmod(number, 0.15f);
          if (kind == kEdge && i % 50 == 0) number = 0.34f + 0.0004f * static_cast<float>(i / 50 % 20) - 0.15f;
        }
      }
    } else {
      for (size_t i = 0; i < x.size(); i += 5) x[i] *= kind == kFar ? 100000 : 1000;
    }
    for (uint64_t i = 0; kind == kSpecials && i < kExpGroup; ++i) base[1 + 2 * kExpGroup + i] = NAN;
    if (kind == kOneNaN) x[77] = base[300] = NAN;
    if (kind == kOneInfinity) {
      x[77] = INFINITY;
      base[300] = -INFINITY;
    }
    ForEachTarget([&] {
      for (const uint64_t num_groups : {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{8}, uint64_t{9}, kGroups}) {
        std::vector<GroupExpSums> sums(kGroups);
        SumExpGroups(x.data() + 1, base.data() + 1, num_groups, sums.data());
        for (uint64_t g = 0; g < num_groups; ++g) {
          const uint64_t first = 1 + g * kExpGroup;
          const GroupExpSums expected = reference::SumExps(&x[first], &base[first], kExpGroup);
          ASSERT_EQ(sums[g].x_most, expected.x_most);
          ASSERT_EQ(sums[g].base_most, expected.base_most);
          ASSERT_TRUE(Same(sums[g].x_sum, expected.x_sum)) << g;
          ASSERT_TRUE(Same(sums[g].base_sum, expected.base_sum)) << g;
          ASSERT_TRUE(Same(sums[g].differences, expected.differences)) << g;
        }
      }
    });
  }
}

}  // namespace
}  // namespace sluice::kernels
