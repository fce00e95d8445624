#include "kernels/fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

// src/quant/encodings/small_floats_test.cc holds all codes to ml_dtypes; here the definitions, at a few places.
TEST(Fp8, ReferenceByHand) {
  EXPECT_EQ(reference::E4M3ToF32(0x01), 0x1p-9f);
  EXPECT_EQ(reference::E4M3ToF32(0x08), 0x1p-6f);
  EXPECT_EQ(reference::E4M3ToF32(0xB8), -1.0f);
  EXPECT_EQ(reference::E4M3ToF32(0x7E), 448.0f);
  EXPECT_TRUE(std::isnan(reference::E4M3ToF32(0xFF)));
  EXPECT_TRUE(std::signbit(reference::E4M3ToF32(0x80)));
  EXPECT_EQ(reference::E5M2ToF32(0x01), 0x1p-16f);
  EXPECT_EQ(reference::E5M2ToF32(0x3C), 1.0f);
  EXPECT_EQ(reference::E5M2ToF32(0xFB), -57344.0f);
  EXPECT_EQ(reference::E5M2ToF32(0xFC), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(reference::E5M2ToF32(0x7D)));
}

// All codes, in arrays of every length up to two vectors' and of all codes, unaligned.
TEST(Fp8, EveryTargetGivesTheReferencesBits) {
  std::vector<uint64_t> counts = {256};
  for (uint64_t count = 0; count < 18; ++count) counts.push_back(count);
  for (const uint64_t count : counts) {
    std::vector<uint8_t> codes(count + 1);
    for (uint64_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 101 + count * 7);
    std::vector<float> e4m3(count + 1, 7), e5m2(count + 1, 7);
    for (uint64_t i = 0; i < count; ++i) e4m3[i] = reference::E4M3ToF32(codes[i + 1]);
    for (uint64_t i = 0; i < count; ++i) e5m2[i] = reference::E5M2ToF32(codes[i + 1]);
    ForEachTarget([&] {
      std::vector<float> out(count + 1, 7);
      E4M3ToF32(codes.data() + 1, count, out.data());
      EXPECT_TRUE(SameBits(out, e4m3)) << count;
      E5M2ToF32(codes.data() + 1, count, out.data());
      EXPECT_TRUE(SameBits(out, e5m2)) << count;
    });
  }
}

}  // namespace
}  // namespace sluice::kernels
