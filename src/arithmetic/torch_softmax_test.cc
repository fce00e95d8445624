#include "arithmetic/torch_softmax.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::kTorchTypes;
using tests::TorchDigest;
using tests::TorchNumbers;

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

// Of tools/goldens/torch_tables.py softmax.
struct Case {
  uint64_t count;
  const char* digests[3];
};
constexpr Case kCases[] = {
    {1, {"e00e5eb9444182f3", "e00e5eb9444182f3", "e00e5eb9444182f3"}},
    {3, {"f642c5a9ebcee112", "f0efc16b227f3aab", "0f22689de3aeade0"}},
    {7, {"c9ff1c40dda077dd", "c7cdf0f934d74414", "2d10602dc627c4c9"}},
    {8, {"138bff3aba3e303c", "9867325e9e7f26e6", "7d2d04d7ea50ab10"}},
    {9, {"32126856ac4e820b", "2dbbbcb7406fef9d", "a14bf01ab035de99"}},
    {15, {"43333998612d4593", "16446f21d69d1e3c", "d94b648ce0543fbe"}},
    {16, {"9fd6259380cadde2", "6616f57a3e017cc0", "9de37cbffc63878d"}},
    {20, {"aed553effcaab376", "40ceaa6ec6e7323d", "4e379ac55e928ed3"}},
    {31, {"92e0b3afe5567efe", "635c7ba693e5f663", "8eca642aede2c811"}},
    {88, {"2325ec36f115dd61", "df53fe7c056df459", "f72dab04fabe39f6"}},
    {1000, {"cc79710d670d29a0", "93f1c60b6fbf0643", "e81f5db2580aa779"}},
    {4099, {"c224effdf137340a", "f2fd8ba1c65b82b3", "6a69d93281801620"}},
};

TEST(TorchSoftmax, IsTorchs) {
  for (const Case& of : kCases) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> numbers = TorchNumbers(kTorchTypes[t], of.count, of.count);
      std::vector<float> out(of.count);
      TorchSoftmax(kTorchTypes[t], numbers, out.data());
      EXPECT_EQ(TorchDigest(out), of.digests[t]) << of.count << " numbers of type " << t;
    }
  }
}

TEST(TorchSoftmax, OfANanIsNan) {
  for (const WorkingType type : kTorchTypes) {
    std::vector<float> numbers = TorchNumbers(type, 20, 1), out(20);
    numbers[13] = kNan;
    TorchSoftmax(type, numbers, out.data());
    for (const float value : out) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(TorchExp, EndsAtZero) {
  EXPECT_EQ(TorchExp(0), 1);
  EXPECT_EQ(TorchExp(-103.9f), 0x1p-149f);  // torch.exp(torch.full((8,), -103.9)).softmax's own exponential
  EXPECT_EQ(TorchExp(-105), 0);
  EXPECT_EQ(TorchExp(-kInfinity), 0);
  EXPECT_TRUE(std::isnan(TorchExp(kNan)));
}

// Every positive number of bf16 and f16, by tools/goldens/torch_tables.py log.
TEST(TorchLog, OfAllHalvesIsTorchs) {
  std::vector<float> bf16, f16;
  for (uint32_t bits = 1; bits < 0x7F80; ++bits) bf16.push_back(TorchLog(std::bit_cast<float>(bits << 16)));
  for (uint32_t bits = 1; bits < 0x7C00; ++bits) {
    const auto significand = static_cast<float>(bits < 0x400 ? bits : (bits & 0x3FF) | 0x400);
    f16.push_back(TorchLog(std::ldexp(significand, static_cast<int>(std::max(bits >> 10, 1u)) - 25)));
  }
  for (float& value : bf16) value = RoundTo(WorkingType::kBf16, value);
  for (float& value : f16) value = RoundTo(WorkingType::kF16, value);
  EXPECT_EQ(TorchDigest(bf16), "c109975f1ed699c2");
  EXPECT_EQ(TorchDigest(f16), "63f81ea8ed03cc81");
}

// f32: torch asks MKL, whose error is below one unit in the last place; the nearest number's is half of one: the two
// are the same or neighbours.
TEST(TorchLog, OfF32IsTorchsOrItsNeighbour) {
  struct Pair {
    float x;
    uint32_t log;
  };
  constexpr Pair kLogs[] = {
      {0.5087890625f, 0xbf2cfc1a}, {0.5556640625f, 0xbf166c63}, {0.6025390625f, 0xbf01b0b8},
      {0.6494140625f, 0xbedd05c9}, {0.6962890625f, 0xbeb956ce}, {0.7431640625f, 0xbe97fb36},
      {0.7900390625f, 0xbe71543c}, {0.8369140625f, 0xbe364e84}, {0.8837890625f, 0xbdfd00e5},
      {0.9306640625f, 0xbd9329b6}, {0.9775390625f, 0xbcba190f}, {1.0244140625f, 0x3cc598fd},
      {1.0712890625f, 0x3d8d07dd}, {1.1181640625f, 0x3de4bcbc}, {1.1650390625f, 0x3e1c6bb5},
      {1.2119140625f, 0x3e44d055}, {1.2587890625f, 0x3e6bac7e}, {1.3056640625f, 0x3e888e72},
      {1.3525390625f, 0x3e9a9d99}, {1.3994140625f, 0x3eac0f39}, {1.4462890625f, 0x3ebcedb3},
      {1.4931640625f, 0x3ecd426d},
  };
  for (const Pair& of : kLogs) {
    const float ours = TorchLog(of.x), theirs = std::bit_cast<float>(of.log);
    EXPECT_TRUE(ours == theirs || std::nextafter(ours, theirs) == theirs) << of.x;
  }
}

TEST(TorchLog, KnowsItsEnds) {
  EXPECT_EQ(TorchLog(0), -kInfinity);
  EXPECT_EQ(TorchLog(kInfinity), kInfinity);
  EXPECT_EQ(TorchLog(1), 0);
  EXPECT_TRUE(std::isnan(TorchLog(-1)));
  EXPECT_TRUE(std::isnan(TorchLog(kNan)));
}

}  // namespace
}  // namespace sluice::arithmetic
