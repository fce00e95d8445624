#include "kernels/unit_distance.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/testing/each_target.h"

namespace sluice::kernels {
namespace {

UnitDistances Count16(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b, uint32_t special) {
  UnitDistances distances;
  CountUnitDistances(reinterpret_cast<const uint8_t*>(a.data()), reinterpret_cast<const uint8_t*>(b.data()), a.size(),
                     2, special, &distances);
  return distances;
}

TEST(UnitDistance, ByHand) {
  // BF16: 1 and the next, twos, 3 and 4 apart; across zero; +0 and -0; infinity and NaN.
  std::vector<uint16_t> a = {0x3F80, 0x3F80, 0x3F80, 0x3F80, 0x0001, 0x8002, 0x0000, 0x7F80, 0x7FC0, 0x7F7F, 0x0000};
  std::vector<uint16_t> b = {0x3F81, 0x3F7E, 0x3F83, 0x3F84, 0x8001, 0x0003, 0x8000, 0x3F80, 0x3F80, 0xFF7F, 0x8001};
  UnitDistances expected;
  expected.counts[0] = 2;   // 1; +0 and the one below zero
  expected.counts[1] = 2;   // 2; 1 above zero and 1 below
  expected.counts[2] = 2;   // 3 and 4
  expected.counts[3] = 1;   // 5: 2 below zero, 3 above
  expected.counts[16] = 1;  // the largest and its opposite: 2 * 0x7F7F
  expected.sign_changes = 3;
  ForEachTarget([&] { EXPECT_EQ(Count16(a, b, 0x7F80), expected); });
  // In whole vectors too.
  for (int i = 0; i < 5; ++i) {
    a.insert(a.end(), a.begin(), a.end());
    b.insert(b.end(), b.begin(), b.end());
  }
  for (uint64_t& count : expected.counts) count *= 32;
  expected.sign_changes *= 32;
  ForEachTarget([&] { EXPECT_EQ(Count16(a, b, 0x7F80), expected); });
}

TEST(UnitDistance, EveryTargetAndWidth) {
  std::mt19937 random(1);
  for (const int code_bytes : {1, 2, 4}) {
    const uint32_t special = code_bytes == 1 ? 0x7F : code_bytes == 2 ? 0x7C00 : 0x7F800000;
    std::vector<uint8_t> a(4001 * 4), b;
    for (uint8_t& byte : a) byte = static_cast<uint8_t>(random());
    b = a;
    // Near ones, as changed weights are, and far ones.
    for (size_t i = 0; i < b.size(); i += 1 + random() % 7)
      b[i] = static_cast<uint8_t>(random() % 3 == 0 ? random() : b[i] ^ 1);
    for (const uint64_t count : {0, 1, 7, 15, 16, 17, 31, 33, 511, 512, 513, 1100, 4000}) {
      UnitDistances expected;
      reference::CountUnitDistances(a.data() + 1, b.data() + 1, count, code_bytes, special, &expected);
      if (count == 4000) {
        EXPECT_GT(expected.total(), 100u);
        EXPECT_LT(expected.total(), 4000u);
      }
      ForEachTarget([&] {
        UnitDistances distances;
        CountUnitDistances(a.data() + 1, b.data() + 1, count, code_bytes, special, &distances);
        ASSERT_EQ(distances, expected) << code_bytes << " " << count;
      });
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
