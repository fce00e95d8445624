#include "arithmetic/torch_columns.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "arithmetic/working_type.h"

namespace sluice::arithmetic {
namespace {

constexpr WorkingType kTypes[] = {WorkingType::kF32, WorkingType::kBf16, WorkingType::kF16};

std::vector<float> Numbers(uint64_t count, uint64_t seed) {
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float fraction = static_cast<float>(seed >> 40) * 0x1p-24f - 0.5f;
    number = std::ldexp(fraction, static_cast<int>(seed >> 33 & 7) - 4);
  }
  return numbers;
}

// x = Numbers(rows * columns, rows * columns) as a matrix in f32, bf16 and f16; of x.t().sum(-1) of torch 2.15 (AVX2)
// the bits of the sums as f32, each added to 31 times what comes of those before it, modulo 2^32.
struct Case {
  uint64_t rows, columns;
  uint32_t hashes[3];
};
constexpr Case kCases[] = {
    {1, 40, {0x8ecc2bc0, 0x6eb00000, 0x07a9a000}},    {3, 5, {0xa5aa32b7, 0xe3310000, 0x5cb9a000}},
    {7, 33, {0xc8903660, 0x78c90000, 0xcf770000}},    {64, 70, {0xd0dacad1, 0xec000000, 0x42cba000}},
    {300, 12, {0x141a306b, 0x78f40000, 0x70e9e000}},  {1000, 100, {0xe469b30c, 0x576b0000, 0x86fd4000}},
    {5000, 36, {0x912bdef7, 0x17280000, 0x06922000}},
};

TEST(TorchColumnSums, AreTorchs) {
  for (const Case& c : kCases) {
    for (int t = 0; t < 3; ++t) {
      std::vector<float> x = Numbers(c.rows * c.columns, c.rows * c.columns);
      for (float& number : x) number = RoundTo(kTypes[t], number);
      for (const uint64_t piece : {uint64_t{65536}, uint64_t{13}}) {
        TorchColumnSums sums(c.rows, c.columns, LanesOf(kTypes[t]));
        for (uint64_t at = 0; at < x.size(); at += piece) sums.Add(at, &x[at], std::min(piece, x.size() - at));
        uint32_t hash = 0;
        for (const float sum : sums.Finish()) hash = hash * 31 + std::bit_cast<uint32_t>(RoundTo(kTypes[t], sum));
        EXPECT_EQ(hash, c.hashes[t]) << c.rows << " rows, " << c.columns << " columns, type " << t;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
