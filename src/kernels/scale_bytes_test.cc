#include "kernels/scale_bytes.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

std::vector<int8_t> RandomBytes(uint64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int8_t> bytes(count);
  for (int8_t& byte : bytes) byte = static_cast<int8_t>(random());
  return bytes;
}

TEST(ScaleBytes, ReferenceByHand) {
  const std::vector<int8_t> q = RandomBytes(64, 1);
  const std::vector<float> scales = {0.5f, -3.0f}, offsets = {0.25f, 1e-3f};
  std::vector<float> out(64);
  reference::ScaleBytes(
      {.q = q.data(), .num_groups = 2, .group = 32, .scales = scales.data(), .offsets = nullptr, .out = out.data()});
  EXPECT_EQ(out[31], 0.5f * static_cast<float>(q[31]));
  EXPECT_EQ(out[32], -3.0f * static_cast<float>(q[32]));
  reference::ScaleBytes({.q = q.data(),
                         .num_groups = 2,
                         .group = 32,
                         .scales = scales.data(),
                         .offsets = offsets.data(),
                         .out = out.data()});
  EXPECT_EQ(out[0], 0.5f * static_cast<float>(q[0]) + 0.25f);
  EXPECT_EQ(out[63], static_cast<float>(-3.0 * q[63] + static_cast<double>(1e-3f)));
}

// Scales whose product and sum need both roundings: a fused step would differ.
TEST(ScaleBytes, EveryTargetGivesTheReferencesBits) {
  for (const uint64_t group : {16, 32}) {
    for (const uint64_t num_groups : {0, 1, 2, 7, 16}) {
      const uint64_t count = num_groups * group;
      const std::vector<int8_t> q = RandomBytes(count + 1, static_cast<uint32_t>(count));
      const std::vector<float> scales = OddFloats(num_groups, 2, false), offsets = OddFloats(num_groups, 3, false);
      for (const bool with_offsets : {false, true}) {
        std::vector<float> expected(count + 2, 7), out(count + 2, 7);
        ScaleBytesArgs args = {.q = q.data() + 1,
                               .num_groups = num_groups,
                               .group = group,
                               .scales = scales.data(),
                               .offsets = with_offsets ? offsets.data() : nullptr,
                               .out = expected.data() + 1};
        reference::ScaleBytes(args);
        args.out = out.data() + 1;
        ForEachTarget([&] {
          std::fill(out.begin(), out.end(), 7.0f);
          ScaleBytes(args);
          EXPECT_TRUE(SameBits(out, expected)) << group << " " << num_groups;
        });
      }
    }
  }
}

TEST(LookUpBytes, EveryTargetLooksUp) {
  const std::vector<int8_t> table = RandomBytes(16, 4);
  std::mt19937 random(5);
  for (const uint64_t count : {0, 16, 256}) {
    std::vector<int8_t> bytes(count + 2, 3);
    for (uint64_t i = 1; i <= count; ++i) bytes[i] = static_cast<int8_t>(random() % 16);
    std::vector<int8_t> expected = bytes;
    for (uint64_t i = 1; i <= count; ++i) expected[i] = table[static_cast<size_t>(bytes[i])];
    ForEachTarget([&] {
      std::vector<int8_t> looked_up = bytes;
      LookUpBytes(table.data(), count, looked_up.data() + 1);
      EXPECT_EQ(looked_up, expected);
    });
    reference::LookUpBytes(table.data(), count, bytes.data() + 1);
    EXPECT_EQ(bytes, expected);
  }
}

}  // namespace
}  // namespace sluice::kernels
