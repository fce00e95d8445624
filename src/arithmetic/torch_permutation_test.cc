#include "arithmetic/torch_permutation.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "kernels/sha256.h"

namespace sluice::arithmetic {
namespace {

// Of tools/goldens/torch_tables.py permutation: the first `count` numbers of torch.randperm(n) after seed 42, as 64-bit
// integers; and what torch.randint(0, 2**20) gives after it.
struct Case {
  uint64_t n, count;
  const char* digest;
  uint64_t next;
};
constexpr Case kCases[] = {
    {1, 1, "af5570f5a1810b7a", 121958},
    {2, 2, "9d34149fbd1fe777", 671155},
    {5, 5, "17462966d8ec9fea", 259178},
    {1000, 1000, "ac5c22de20fc5d16", 497562},
    {1000, 10, "3325a47a2c74a793", 497562},
    {1048576, 1000000, "89a57b9d9a4a3b4f", 400539},
    {214748364, 1000, "9eef59368acdb9f9", 210409},
};

TEST(TorchPermutation, IsTorchs) {
  for (const Case& of : kCases) {
    const std::vector<uint64_t> numbers = TorchPermutation(TorchGenerator(42), of.n, of.count);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(numbers.data()), numbers.size() * 8);
    EXPECT_EQ(kernels::ToHex(kernels::HashBytes(bytes)).substr(0, 16), of.digest) << of.count << " of " << of.n;
    uint32_t word;
    TorchGenerator::At(42, TorchPermutationDraws(of.n)).Fill(&word, 1);
    EXPECT_EQ(word % (1u << 20), of.next) << of.n;
  }
}

TEST(TorchPermutation, TakesTwoWordsANumberFromATwentiethOf32BitsOn) {
  EXPECT_EQ(TorchPermutationDraws(214748363), 214748362u);
  EXPECT_EQ(TorchPermutationDraws(214748364), 2 * 214748364u);
  EXPECT_EQ(TorchPermutationDraws(0), 0u);
}

TEST(TorchPermutation, GivesEveryNumberOnce) {
  std::vector<uint64_t> numbers = TorchPermutation(TorchGenerator(7), 5000, 5000);
  std::ranges::sort(numbers);
  for (uint64_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], i);
}

}  // namespace
}  // namespace sluice::arithmetic
