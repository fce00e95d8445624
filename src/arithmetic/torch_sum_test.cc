#include "arithmetic/torch_sum.h"

#include <cmath>
#include <numeric>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arithmetic/working_type.h"
#include "graph/node.h"

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

std::vector<float> Rounded(std::vector<float> numbers, WorkingType type) {
  for (float& number : numbers) number = RoundTo(type, number);
  return numbers;
}

constexpr WorkingType kTypes[] = {WorkingType::kF32, WorkingType::kBf16, WorkingType::kF16};

// Numbers(count, count).sum() of torch 2.15 with one thread and AVX2, in f32, bf16 and f16.
struct Whole {
  uint64_t count;
  uint32_t sums[3];
};
constexpr Whole kWhole[] = {
    {1, {0xbe9d4488, 0xbe9d0000, 0xbe9d4000}},       {3, {0xbe27b27a, 0xbe280000, 0xbe27c000}},
    {7, {0x405b2aa9, 0x405b0000, 0x405b2000}},       {8, {0x3f825e3c, 0x3f820000, 0x3f826000}},
    {9, {0xbf3bb35d, 0xbf3c0000, 0xbf3ba000}},       {15, {0xc0afc8b6, 0xc0b00000, 0xc0afc000}},
    {16, {0x4076f2cc, 0x40770000, 0x4076e000}},      {31, {0x4126806e, 0x41260000, 0x41268000}},
    {64, {0x3ff9268a, 0x3ffa0000, 0x3ff8e000}},      {65, {0x3e855be0, 0x3e920000, 0x3e84a000}},
    {1000, {0x41e0b15f, 0x41e10000, 0x41e0c000}},    {5000, {0xc29e23d9, 0xc29e0000, 0xc29e2000}},
    {32767, {0xc25721ea, 0xc2550000, 0xc2574000}},   {65536, {0x4311c5b5, 0x43130000, 0x4311c000}},
    {70001, {0x43cdc7ab, 0x43ce0000, 0x43cdc000}},   {300000, {0x441fa190, 0x44200000, 0x441fa000}},
    {1100003, {0xc0597b80, 0xbbb30000, 0xc05ce000}},
};

TEST(TorchSum, OfAWholeTensorIsTorchs) {
  for (const Whole& whole : kWhole) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> numbers = Rounded(Numbers(whole.count, whole.count), kTypes[t]);
      const float sum = RoundTo(kTypes[t], TorchSumOf(numbers, LanesOf(kTypes[t])));
      EXPECT_EQ(std::bit_cast<uint32_t>(sum), whole.sums[t]) << whole.count << " numbers of type " << t;
    }
  }
}

TEST(TorchSum, IsTheSameInAnyOrderOfBlocksAndAnyPieces) {
  constexpr uint64_t kCount = 1'000'003, kBlocks = (kCount + graph::kBlockElements - 1) / graph::kBlockElements;
  const std::vector<float> numbers = Numbers(kCount, 1);
  for (const uint64_t lanes : {8, 16}) {
    const float expected = TorchSumOf(numbers, lanes);
    for (const uint64_t piece : {32, 8192, 4000}) {
      TorchSum sum(kCount, lanes, 3);
      std::vector<std::thread> workers;
      for (int worker = 0; worker < 3; ++worker) {
        workers.emplace_back([&, worker] {
          for (uint64_t block = kBlocks; block-- > 0;) {
            if (block % 3 != static_cast<uint64_t>(worker)) continue;
            const uint64_t end = std::min((block + 1) * graph::kBlockElements, kCount);
            for (uint64_t at = block * graph::kBlockElements; at < end; at += piece) {
              sum.Add(worker, at, numbers.data() + at, std::min(piece, end - at));
            }
          }
        });
      }
      for (std::thread& worker : workers) worker.join();
      EXPECT_EQ(sum.Finish(), expected) << piece;
    }
  }
}

TEST(TorchSum, HoldsLittle) {
  EXPECT_LT(TorchSum::StateBytes(1u << 20, 16, 1), 150'000u);
  EXPECT_LT(TorchSum::StateBytes(uint64_t{1} << 32, 16, 1), uint64_t{1} << 28);
}

// Numbers(models * columns, 1000 models + columns) as [models, columns], summed over axis 0: a hash of the bits.
struct Models {
  uint64_t models, columns;
  uint32_t hashes[3];
};
constexpr Models kModels[] = {
    {1, 1, {0xbf1c3600, 0xbf1c0000, 0xbf1c4000}},    {1, 2, {0x2861fe98, 0x739f0000, 0xbac5c000}},
    {1, 7, {0xe5a06a06, 0xa54b0000, 0xe7e98000}},    {1, 15, {0xeeaf6822, 0x44bb0000, 0x1971a000}},
    {1, 33, {0x92b659fc, 0x98da0000, 0x1826e000}},   {1, 100, {0xa00a4a42, 0x881e0000, 0x4aa7a000}},
    {1, 515, {0xc27d13d4, 0x03350000, 0x0eaae000}},  {4, 1, {0x3fc2570c, 0x3fc20000, 0x3fc26000}},
    {4, 2, {0x79505acc, 0xb4ad0000, 0xb4ace000}},    {4, 7, {0xfb36406e, 0x96b40000, 0xfa0c0000}},
    {4, 15, {0xc5297c70, 0x0cd20000, 0xc89ca000}},   {4, 33, {0x1461b4e3, 0x3c180000, 0x29c96000}},
    {4, 100, {0xfe4322f4, 0x40ce0000, 0x91bd6000}},  {4, 515, {0x2aea2c77, 0x7c340000, 0x48bc0000}},
    {5, 1, {0x3f019602, 0x3f010000, 0x3f01a000}},    {5, 2, {0x7c009895, 0x6fa40000, 0xa81ee000}},
    {5, 7, {0xf29ec4da, 0x7ac60000, 0x762d4000}},    {5, 15, {0x9d23f268, 0x6a760000, 0x83014000}},
    {5, 33, {0x8a9c91bd, 0x26910000, 0xe3632000}},   {5, 100, {0x7a7d14fd, 0xcb230000, 0xa5fe4000}},
    {5, 515, {0xdf7e97c0, 0xfdeb0000, 0xdd91e000}},  {9, 1, {0xc02329db, 0xc0230000, 0xc0234000}},
    {9, 2, {0x30216e6c, 0xb5b40000, 0xb5b46000}},    {9, 7, {0x6a6295a1, 0x41d90000, 0x0785a000}},
    {9, 15, {0xe78f68b7, 0xec580000, 0x68e98000}},   {9, 33, {0xc156c5a7, 0x12b30000, 0x29c78000}},
    {9, 100, {0x802f5a3c, 0x29490000, 0x26df0000}},  {9, 515, {0x2a6d6cb1, 0x48cc0000, 0x7dfa6000}},
    {17, 1, {0x408091ec, 0x40800000, 0x40808000}},   {17, 2, {0x01265c7d, 0xa2440000, 0x77b90000}},
    {17, 7, {0x807ed1b5, 0x39290000, 0xfdc72000}},   {17, 15, {0xb489d980, 0x83270000, 0x48aca000}},
    {17, 33, {0xc0762ac1, 0xcb900000, 0x1de94000}},  {17, 100, {0x65aaabfb, 0x4bda0000, 0xc4572000}},
    {17, 515, {0x073204eb, 0xc5710000, 0xac880000}}, {40, 1, {0x40770c28, 0x40770000, 0x40770000}},
    {40, 2, {0x948cabc3, 0x2e6d0000, 0xbcba8000}},   {40, 7, {0x0d82acff, 0xed8d0000, 0x7bc28000}},
    {40, 15, {0x3679902f, 0xad520000, 0x22d06000}},  {40, 33, {0xf5939d8b, 0x87d50000, 0x03dda000}},
    {40, 100, {0x080d4aac, 0x6ef00000, 0xeafe4000}}, {40, 515, {0x3ed6b660, 0xecff0000, 0x1d10e000}},
};

TEST(TorchSum, OverModelsIsTorchs) {
  for (const Models& stack : kModels) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> numbers =
          Rounded(Numbers(stack.models * stack.columns, 1000 * stack.models + stack.columns), kTypes[t]);
      uint32_t hash = 0;
      for (uint64_t first = 0; first < stack.columns; first += kColumns) {
        const uint64_t count = std::min(kColumns, stack.columns - first);
        std::vector<std::vector<float>> rows(stack.models, std::vector<float>(kColumns, NAN));
        std::vector<const float*> pointers;
        for (uint64_t m = 0; m < stack.models; ++m) {
          std::copy_n(numbers.begin() + static_cast<int64_t>(m * stack.columns + first), count, rows[m].begin());
          pointers.push_back(rows[m].data());
        }
        std::vector<float> sums(kColumns);
        SumOverModels(pointers, first, stack.columns, LanesOf(kTypes[t]), sums.data());
        for (uint64_t i = 0; i < count; ++i) {
          hash = hash * 1000003 + std::bit_cast<uint32_t>(RoundTo(kTypes[t], sums[i]));
        }
      }
      EXPECT_EQ(hash, stack.hashes[t]) << stack.models << " models, " << stack.columns << " columns, type " << t;
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
