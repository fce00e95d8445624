#include "kernels/sha256_blocks.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::kernels {
namespace {

std::vector<uint8_t> Bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(Sha256BlocksTest, AMessageOfAnyLengthInPiecesOfAnyLength) {
  std::mt19937 random(1);
  for (size_t size = 0; size < 300; ++size) {
    const std::vector<uint8_t> bytes = Bytes(size, static_cast<uint32_t>(size));
    Sha256Blocks hash;
    for (size_t at = 0; at < size;) {
      const size_t piece = std::min<size_t>(random() % 150, size - at);
      hash.Update({bytes.data() + at, piece});
      at += piece;
    }
    EXPECT_EQ(hash.Finish(), HashBytes(bytes)) << size;
    hash.Update(bytes);
    EXPECT_EQ(hash.Finish(), HashBytes(bytes)) << "again, " << size;
  }
}

TEST(Sha256BlocksTest, TwoMessagesTogether) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    const std::vector<uint8_t> a = Bytes(random() % 2000, random()), b = Bytes(random() % 2000, random());
    Sha256Blocks hash_a, hash_b;
    size_t at_a = 0, at_b = 0;
    while (at_a < a.size() || at_b < b.size()) {
      // Whole blocks mostly, as pages of files are; sometimes not.
      const size_t unit = random() % 4 == 0 ? 1 : 64;
      const size_t piece_a = std::min(random() % 10 * unit, a.size() - at_a);
      const size_t piece_b = std::min(random() % 10 * unit, b.size() - at_b);
      Sha256Blocks::UpdatePair(&hash_a, {a.data() + at_a, piece_a}, &hash_b, {b.data() + at_b, piece_b});
      at_a += piece_a;
      at_b += piece_b;
    }
    EXPECT_EQ(hash_a.Finish(), HashBytes(a)) << trial;
    EXPECT_EQ(hash_b.Finish(), HashBytes(b)) << trial;
  }
}

}  // namespace
}  // namespace sluice::kernels
