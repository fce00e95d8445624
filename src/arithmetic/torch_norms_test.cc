#include "arithmetic/ordered_sums.h"

#include <algorithm>
#include <bit>

#include <gtest/gtest.h>

#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::kTorchTypes;
using tests::TorchNumbers;

// Of tools/goldens/torch_tables.py norm.
struct Case {
  uint64_t count;
  uint32_t norms[3];
};
constexpr Case kCases[] = {
    {1, {0x3e9d4488, 0x3e9d0000, 0x3e9d4000}},      {3, {0x3e78556a, 0x3e780000, 0x3e784000}},
    {4, {0x3f919264, 0x3f920000, 0x3f91a000}},      {7, {0x4069a0de, 0x40690000, 0x4069a000}},
    {8, {0x3f7943fe, 0x3f790000, 0x3f794000}},      {9, {0x3efc4ab2, 0x3efc0000, 0x3efc4000}},
    {15, {0x407dc13e, 0x407e0000, 0x407dc000}},     {16, {0x4082bc6b, 0x40830000, 0x4082c000}},
    {20, {0x40604d4a, 0x40600000, 0x40604000}},     {31, {0x4089ac09, 0x408a0000, 0x4089a000}},
    {64, {0x411332c4, 0x41130000, 0x41134000}},     {77, {0x40edd3f9, 0x40ee0000, 0x40ede000}},
    {1000, {0x41efc43b, 0x41f00000, 0x41efc000}},   {4099, {0x426d875d, 0x426e0000, 0x426d8000}},
    {65536, {0x43704ee9, 0x43700000, 0x43704000}},  {70001, {0x43789415, 0x43790000, 0x4378a000}},
    {300000, {0x44013030, 0x44010000, 0x44012000}},
};

TEST(TorchNorms, IsTorchs) {
  for (const Case& of : kCases) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> numbers = TorchNumbers(kTorchTypes[t], of.count, of.count);
      EXPECT_EQ(std::bit_cast<uint32_t>(TorchNormOf(kTorchTypes[t], numbers)), of.norms[t])
          << of.count << " numbers of type " << t;
    }
  }
}

TEST(TorchNorms, DoesNotDependOnTheParts) {
  for (const Case& of : kCases) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> numbers = TorchNumbers(kTorchTypes[t], of.count, of.count);
      TorchNorm norm(kTorchTypes[t]);
      for (uint64_t begin = 0, part = 1; begin < of.count; begin += part, part = part * 3 % 1001 + 1) {
        part = std::min(part, of.count - begin);
        norm.Add(numbers.data() + begin, part);
      }
      EXPECT_EQ(std::bit_cast<uint32_t>(norm.Finish()), of.norms[t]) << of.count << " numbers of type " << t;
    }
  }
}

TEST(TorchNorms, OfNothingIsZero) { EXPECT_EQ(TorchNormOf(WorkingType::kF32, {}), 0); }

}  // namespace
}  // namespace sluice::arithmetic
