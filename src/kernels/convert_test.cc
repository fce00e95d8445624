#include "kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/testing/each_target.h"

namespace sluice::kernels {
namespace {

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }
float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// A 16-bit format told apart by its definition alone: value = digits 2^exponent.
struct Format {
  int digit_bits, bias;
};
constexpr Format kBf16{7, 127}, kF16{10, 15};

double ValueOf(uint16_t bits, Format format) {
  const int exponent = (bits & 0x7FFF) >> format.digit_bits;
  const int digits = bits & ((1 << format.digit_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(digits, 1 - format.bias - format.digit_bits)
                    : std::ldexp(digits + (1 << format.digit_bits), exponent - format.bias - format.digit_bits);
  return bits >> 15 ? -magnitude : magnitude;
}
uint16_t Infinity(Format format) { return static_cast<uint16_t>(0x7FFF >> format.digit_bits << format.digit_bits); }

TEST(Convert, ReferenceWidensToTheValue) {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    for (const Format format : {kBf16, kF16}) {
      const uint16_t half = static_cast<uint16_t>(bits);
      const float value = format.bias == 127 ? reference::Bf16ToF32(half) : reference::F16ToF32(half);
      ASSERT_EQ(std::signbit(value), bits >= 0x8000);
      const int magnitude = half & 0x7FFF, infinity = Infinity(format);
      if (magnitude < infinity) {
        ASSERT_EQ(value, ValueOf(half, format)) << bits;
      } else if (magnitude == infinity) {
        ASSERT_TRUE(std::isinf(value));
      } else {  // the payload's digits are the top ones
        ASSERT_EQ(Bits(value) & 0x7FFFFFFF, 0x7F800000u | static_cast<uint32_t>(magnitude - infinity)
                                                              << (23 - format.digit_bits));
      }
    }
  }
}

// Around each pair of neighbours a < b of the format: a, just above, just under the middle, the middle (to the even
// one), just above it, just under b. Past the largest, the neighbour is what would come next if the exponent went on.
TEST(Convert, ReferenceRoundsToNearestEven) {
  for (const Format format : {kBf16, kF16}) {
    const auto narrow = format.bias == 127 ? reference::F32ToBf16 : reference::F32ToF16;
    for (uint16_t a = 0; a < Infinity(format); ++a) {
      const uint16_t b = static_cast<uint16_t>(a + 1);
      const double low = ValueOf(a, format), high = ValueOf(b, format), middle = (low + high) / 2;
      const uint16_t even = a % 2 == 0 ? a : b;
      ASSERT_EQ(narrow(static_cast<float>(low)), a);
      if (middle < std::numeric_limits<float>::max()) {
        const float m = static_cast<float>(middle);
        ASSERT_EQ(static_cast<double>(m), middle);
        ASSERT_EQ(narrow(m), even) << a;
        ASSERT_EQ(narrow(-m), even | 0x8000) << a;
        ASSERT_EQ(narrow(std::nextafter(m, 0.0f)), a);
        ASSERT_EQ(narrow(std::nextafter(m, std::numeric_limits<float>::infinity())), b);
        ASSERT_EQ(narrow(std::nextafter(static_cast<float>(low), std::numeric_limits<float>::infinity())), a);
        ASSERT_EQ(narrow(std::nextafter(static_cast<float>(high), 0.0f)), b);
      }
    }
  }
  EXPECT_EQ(reference::F32ToF16(65519.996f), 0x7BFF);
  EXPECT_EQ(reference::F32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(reference::F32ToF16(-1e30f), 0xFC00);
  EXPECT_EQ(reference::F32ToBf16(FromBits(0x7F7F7FFF)), 0x7F7F);
  EXPECT_EQ(reference::F32ToBf16(FromBits(0x7F7F8000)), 0x7F80);
  EXPECT_EQ(reference::F32ToF16(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_EQ(reference::F32ToBf16(-std::numeric_limits<float>::infinity()), 0xFF80);
  EXPECT_EQ(reference::F32ToF16(0x1p-25f), 0);  // half of the smallest subnormal: to even
  EXPECT_EQ(reference::F32ToF16(FromBits(Bits(0x1p-25f) + 1)), 1);
  EXPECT_EQ(reference::F32ToF16(FromBits(1)), 0);
}

TEST(Convert, ReferenceKeepsNaN) {
  // A payload whose digits would all be cut, or which would carry into the sign, stays a NaN.
  EXPECT_EQ(reference::F32ToBf16(FromBits(0x7F800001)), 0x7FC0);
  EXPECT_EQ(reference::F32ToBf16(FromBits(0xFFFFFFFF)), 0xFFFF);
  EXPECT_EQ(reference::F32ToF16(FromBits(0x7F800001)), 0x7E00);
  EXPECT_EQ(reference::F32ToF16(FromBits(0xFFFFFFFF)), 0xFFFF);
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    // There and back gives the same, but for NaNs that become quiet.
    const int bf16_infinity = Infinity(kBf16), f16_infinity = Infinity(kF16);
    ASSERT_EQ(reference::F32ToBf16(reference::Bf16ToF32(half)), (half & 0x7FFF) > bf16_infinity ? half | 0x40 : half);
    ASSERT_EQ(reference::F32ToF16(reference::F16ToF32(half)), (half & 0x7FFF) > f16_infinity ? half | 0x200 : half);
  }
}

TEST(Convert, EveryTargetWidensAllInputs) {
  std::vector<uint8_t> in((1 << 17) + 1);
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    std::memcpy(in.data() + 1 + 2 * bits, &half, 2);  // unaligned
  }
  std::vector<float> bf16(1 << 16), f16(1 << 16);
  ForEachTarget([&] {
    Bf16ToF32(in.data() + 1, 1 << 16, bf16.data());
    F16ToF32(in.data() + 1, 1 << 16, f16.data());
    for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
      ASSERT_EQ(Bits(bf16[bits]), Bits(reference::Bf16ToF32(static_cast<uint16_t>(bits)))) << bits;
      ASSERT_EQ(Bits(f16[bits]), Bits(reference::F16ToF32(static_cast<uint16_t>(bits)))) << bits;
    }
  });
}

// All top halves with low halves where rounding turns, and random ones.
TEST(Convert, EveryTargetNarrowsAsTheReference) {
  std::mt19937 random(1);
  std::vector<float> in;
  for (uint32_t top = 0; top < 1 << 16; ++top) {
    for (const uint32_t low : {0u, 1u, 0x0FFFu, 0x1000u, 0x1001u, 0x2FFFu, 0x3000u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu,
                               static_cast<uint32_t>(random() & 0xFFFF)}) {
      in.push_back(FromBits(top << 16 | low));
    }
  }
  std::vector<uint8_t> bf16(2 * in.size() + 1), f16(2 * in.size() + 1);
  ForEachTarget([&] {
    F32ToBf16(in.data(), in.size(), bf16.data() + 1);
    F32ToF16(in.data(), in.size(), f16.data() + 1);
    for (size_t i = 0; i < in.size(); ++i) {
      uint16_t b, h;
      std::memcpy(&b, bf16.data() + 1 + 2 * i, 2);
      std::memcpy(&h, f16.data() + 1 + 2 * i, 2);
      ASSERT_EQ(b, reference::F32ToBf16(in[i])) << std::hex << Bits(in[i]);
      ASSERT_EQ(h, reference::F32ToF16(in[i])) << std::hex << Bits(in[i]);
    }
  });
}

TEST(Convert, AnyCountAndNothingBeyondIt) {
  std::mt19937 random(2);
  ForEachTarget([&] {
    for (uint64_t count = 0; count <= 70; ++count) {
      // Exact allocations, so that a sanitizer sees a read or write beyond.
      std::vector<uint8_t> in(2 * count), back(2 * count + 2, 0xAB);
      for (uint8_t& byte : in) byte = static_cast<uint8_t>(random());
      std::vector<float> wide(count + 1, 42.0f);
      for (const bool is_bf16 : {true, false}) {
        (is_bf16 ? Bf16ToF32 : F16ToF32)(in.data(), count, wide.data());
        ASSERT_EQ(wide[count], 42.0f);
        const std::vector<float> exact(wide.begin(), wide.begin() + static_cast<ptrdiff_t>(count));
        (is_bf16 ? F32ToBf16 : F32ToF16)(exact.data(), count, back.data());
        ASSERT_EQ(back[2 * count], 0xAB);
        for (uint64_t i = 0; i < count; ++i) {
          uint16_t half, returned;
          std::memcpy(&half, in.data() + 2 * i, 2);
          std::memcpy(&returned, back.data() + 2 * i, 2);
          const float expected = is_bf16 ? reference::Bf16ToF32(half) : reference::F16ToF32(half);
          ASSERT_EQ(Bits(wide[i]), Bits(expected));
          ASSERT_EQ(returned, is_bf16 ? reference::F32ToBf16(expected) : reference::F32ToF16(expected));
        }
      }
    }
  });
}

}  // namespace
}  // namespace sluice::kernels
