#include "arithmetic/ordered_sums.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

// Numbers of very different sizes, so that every other order of adding shows.
std::vector<float> Numbers(uint64_t count, uint64_t seed) {
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float fraction = static_cast<float>(seed >> 40) * 0x1p-24f - 0.5f;
    number = std::ldexp(fraction, static_cast<int>(seed >> 33 & 7) - 4);
  }
  return numbers;
}

constexpr WorkingType kTypes[] = {WorkingType::kF32, WorkingType::kBf16, WorkingType::kF16};

// Of x = Numbers(count, count) and y = Numbers(count, count + 1), in f32, bf16 and f16: torch.norm(x) and torch.dot(x,
// y) of torch 2.15; numpy.dot(x, y) and numpy.sum(x) of numpy 2.4.6. One thread, AVX2, an AMD EPYC.
struct Case {
  uint64_t count;
  uint32_t norms[3], dots[3], numpy_dot, numpy_sum;
};
constexpr Case kCases[] = {
    {1, {0x3e9d4488, 0x3e9d0000, 0x3e9d4000}, {0xbda8b90d, 0xbda80000, 0xbda8c000}, 0xbda8b90d, 0xbe9d4488},
    {3, {0x3e78556a, 0x3e780000, 0x3e784000}, {0x3de4dbf8, 0x3de50000, 0x3de4e000}, 0x3de4dbf8, 0xbe27b27a},
    {4, {0x3f919264, 0x3f920000, 0x3f91a000}, {0xbd3b77f0, 0xbd3b0000, 0xbd3b8000}, 0xbd3b77ef, 0x3f9f784e},
    {7, {0x4069a0de, 0x40690000, 0x4069a000}, {0x3b360fe0, 0x3b3a0000, 0x3b36a000}, 0x3b360fde, 0x405b2aa9},
    {8, {0x3f7943fe, 0x3f790000, 0x3f794000}, {0xbe1478a4, 0xbe140000, 0xbe148000}, 0xbe1478a4, 0x3f825e3b},
    {13, {0x3fefe8b9, 0x3ff00000, 0x3fefe000}, {0x3eef8cf4, 0x3ef00000, 0x3eefa000}, 0x3eef8cf6, 0xc051ece8},
    {16, {0x4082bc6b, 0x40830000, 0x4082c000}, {0xbfef7412, 0xbff00000, 0xbfef6000}, 0xbfef7412, 0x4076f2cc},
    {31, {0x4089ac09, 0x408a0000, 0x4089a000}, {0xc02e0292, 0xc02e0000, 0xc02e0000}, 0xc02e0292, 0x4126806f},
    {40, {0x40bbd4f0, 0x40bc0000, 0x40bbe000}, {0xc0b37261, 0xc0b30000, 0xc0b38000}, 0xc0b37261, 0x4098610e},
    {100, {0x411326dd, 0x41130000, 0x41132000}, {0x4175230a, 0x41750000, 0x41752000}, 0x4175230a, 0xc08ef1fc},
    {1000, {0x41efc43b, 0x41f00000, 0x41efc000}, {0x40a3c889, 0x40a20000, 0x40a3c000}, 0x40a3c888, 0x41e0b160},
    {4099, {0x426d875d, 0x426e0000, 0x426d8000}, {0x41e60dac, 0x41e70000, 0x41e5e000}, 0x41e60dac, 0x41201ad0},
    {70001, {0x43789415, 0x43790000, 0x4378a000}, {0xc3bc3fdf, 0xc3bc0000, 0xc3bc4000}, 0xc3bc3fe7, 0x43cdc7ac},
};

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

// Adds [0, count) in pieces of that length.
template <class Add>
void InPieces(uint64_t count, uint64_t piece, const Add& add) {
  for (uint64_t at = 0; at < count; at += piece) add(at, std::min(piece, count - at));
}

TEST(OrderedSums, AreTheLibrariesOwn) {
  for (const Case& c : kCases) {
    for (const uint64_t piece : {uint64_t{8192}, uint64_t{7}}) {
      const std::vector<float> all_x = Numbers(c.count, c.count), all_y = Numbers(c.count, c.count + 1);
      for (int t = 0; t < 3; ++t) {
        std::vector<float> x = all_x, y = all_y;
        for (float& number : x) number = RoundTo(kTypes[t], number);
        for (float& number : y) number = RoundTo(kTypes[t], number);
        TorchNorm norm(kTypes[t]);
        TorchDot dot(kTypes[t]);
        InPieces(c.count, piece, [&](uint64_t at, uint64_t count) {
          norm.Add(&x[at], count);
          dot.Add(&x[at], &y[at], count);
        });
        EXPECT_EQ(Bits(norm.Finish()), c.norms[t]) << c.count << " numbers of type " << t;
        EXPECT_EQ(Bits(dot.Finish()), c.dots[t]) << c.count << " numbers of type " << t;
      }
      OpenBlasDot dot;
      NumpySum sum(c.count);
      InPieces(c.count, piece, [&](uint64_t at, uint64_t count) {
        dot.Add(&all_x[at], &all_y[at], count);
        sum.Add(&all_x[at], count);
      });
      EXPECT_EQ(Bits(dot.Finish()), c.numpy_dot) << c.count;
      EXPECT_EQ(Bits(sum.Finish()), c.numpy_sum) << c.count;
    }
  }
}

TEST(OrderedSums, OfNothingAreZero) {
  EXPECT_EQ(TorchNorm(WorkingType::kF32).Finish(), 0);
  EXPECT_EQ(TorchDot(WorkingType::kBf16).Finish(), 0);
  EXPECT_EQ(OpenBlasDot().Finish(), 0);
  EXPECT_EQ(NumpySum(0).Finish(), 0);
}

}  // namespace
}  // namespace sluice::arithmetic
