#include "arithmetic/torch_generator.h"

#include <random>

#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

// The standard library's MT19937 is init_genrand's too: the reference for all of it.
std::vector<uint32_t> Reference(uint32_t seed, uint64_t position, size_t count) {
  std::mt19937 reference(seed);
  reference.discard(position);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(reference());
  return words;
}

std::vector<uint32_t> Drawn(TorchGenerator generator, size_t count) {
  std::vector<uint32_t> words(count);
  generator.Fill(words.data(), 3);
  generator.Fill(words.data() + 3, count - 3);
  return words;
}

TEST(TorchGenerator, DrawsTheStandardStream) {
  for (const uint32_t seed : {0u, 42u, 0xFFFFFFFFu})
    EXPECT_EQ(Drawn(TorchGenerator(seed), 5000), Reference(seed, 0, 5000));
}

TEST(TorchGenerator, SkipsToAnyPlace) {
  for (const uint64_t position : {1, 623, 624, 625, 1247, 1248, 65536, 1000000}) {
    TorchGenerator generator(7);
    generator.Skip(position);
    EXPECT_EQ(generator.position(), position);
    EXPECT_EQ(Drawn(generator, 2000), Reference(7, position, 2000)) << position;
  }
}

TEST(TorchGenerator, JumpsToAnyPlace) {
  for (const uint64_t position : {1, 2, 227, 623, 624, 625, 19936, 19937, 19938, 40000, 65536, 1000003, 50000017}) {
    TorchGenerator generator(99);
    generator.Jump(position);
    EXPECT_EQ(generator.position(), position);
    EXPECT_EQ(Drawn(generator, 2000), Reference(99, position, 2000)) << position;
  }
}

TEST(TorchGenerator, JumpsFromAnyPlace) {
  TorchGenerator generator(5);
  generator.Skip(1234);
  generator.Jump(777777);
  generator.Skip(5);
  generator.Jump(3);
  EXPECT_EQ(Drawn(generator, 1300), Reference(5, 1234 + 777777 + 5 + 3, 1300));
}

// Beyond what a reference can walk to: one jump is two of half the length, and begins where a walk from near it ends.
TEST(TorchGenerator, FarJumpsAddUp) {
  constexpr uint64_t kFar = 10'000'000'000'003;
  TorchGenerator twice(1);
  twice.Jump(kFar / 2);
  twice.Jump(kFar - kFar / 2 - 1000);
  twice.Skip(1000);
  EXPECT_EQ(Drawn(TorchGenerator::At(1, kFar), 2000), Drawn(twice, 2000));
}

}  // namespace
}  // namespace sluice::arithmetic
