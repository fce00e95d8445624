#include "arithmetic/working_type.h"

#include <gtest/gtest.h>

#include "kernels/convert.h"

namespace sluice::arithmetic {
namespace {

// Against the casts that files are written with, over bits of all exponents and around every rounding.
TEST(WorkingType, RoundsAsCastsDo) {
  uint32_t step = 0;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 977 + (step++ & 1023)) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const float bf16 = RoundTo<WorkingType::kBf16>(value), f16 = RoundTo<WorkingType::kF16>(value);
    const float bf16_cast = kernels::reference::Bf16ToF32(kernels::reference::F32ToBf16(value));
    const float f16_cast = kernels::reference::F16ToF32(kernels::reference::F32ToF16(value));
    ASSERT_EQ(std::bit_cast<uint32_t>(bf16), std::bit_cast<uint32_t>(bf16_cast)) << std::hex << bits;
    ASSERT_EQ(std::bit_cast<uint32_t>(f16), std::bit_cast<uint32_t>(f16_cast)) << std::hex << bits;
  }
}

TEST(WorkingType, RoundsHalfwayToEven) {
  EXPECT_EQ(RoundTo<WorkingType::kBf16>(1 + 0x1p-8f), 1);
  EXPECT_EQ(RoundTo<WorkingType::kBf16>(1 + 3 * 0x1p-8f), 1 + 2 * 0x1p-7f);
  EXPECT_EQ(RoundTo<WorkingType::kF16>(1 + 0x1p-11f), 1);
  EXPECT_EQ(RoundTo<WorkingType::kF16>(0x1p-25f), 0);
  EXPECT_EQ(RoundTo<WorkingType::kF16>(3 * 0x1p-25f), 0x1p-23f);
  EXPECT_EQ(RoundTo<WorkingType::kF16>(65519.9f), 65504);
  EXPECT_EQ(RoundTo<WorkingType::kF16>(65520.0f), INFINITY);
  EXPECT_EQ(RoundTo(WorkingType::kF32, 1 + 0x1p-20f), 1 + 0x1p-20f);
}

}  // namespace
}  // namespace sluice::arithmetic
