#include "arithmetic/torch_stream.h"

#include <random>
#include <thread>

#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kFirst = 12345, kCount = 3'000'000;

std::vector<uint32_t> Reference() {
  std::mt19937 reference(42);
  reference.discard(kFirst);
  std::vector<uint32_t> words(kCount);
  for (uint32_t& word : words) word = static_cast<uint32_t>(reference());
  return words;
}

TEST(TorchStream, GivesTheSameWordsInAnyOrder) {
  const std::vector<uint32_t> expected = Reference();
  const TorchStream stream(42, kFirst, kCount);
  std::mt19937 random(1);
  std::vector<uint32_t> words(9000);
  for (int i = 0; i < 300; ++i) {
    const uint64_t begin = random() % kCount / 32 * 32, count = std::min<uint64_t>(random() % 9000, kCount - begin);
    stream.Read(begin, count, words.data());
    ASSERT_TRUE(std::equal(words.begin(), words.begin() + static_cast<int64_t>(count),
                           expected.begin() + static_cast<int64_t>(begin)))
        << begin;
  }
}

TEST(TorchStream, ServesManyReaders) {
  const std::vector<uint32_t> expected = Reference();
  const TorchStream stream(42, kFirst, kCount);
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<uint32_t> words(kCount);
    std::atomic<uint64_t> next{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (uint64_t block = next++; block * 65536 < kCount; block = next++) {
          for (uint64_t at = block * 65536; at < std::min((block + 1) * 65536, kCount); at += 8192) {
            stream.Read(at, std::min<uint64_t>(8192, kCount - at), words.data() + at);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(words, expected);
  }
}

}  // namespace
}  // namespace sluice::arithmetic
