#include "kernels/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

bool SameCandidates(std::span<const Candidate> a, std::span<const Candidate> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Candidate& x, const Candidate& y) {
    return x.bits == y.bits && x.index_in_block == y.index_in_block;
  });
}

bool SameCounts(const BracketCounts& a, const BracketCounts& b) {
  return a.above == b.above && std::ranges::equal(a.common, b.common);
}

TEST(Select, MagnitudesOrderLikeTheNumbers) {
  using reference::MagnitudeBits;
  EXPECT_EQ(MagnitudeBits(1, 3), std::bit_cast<uint32_t>(2.0f));
  EXPECT_EQ(MagnitudeBits(3, 1), std::bit_cast<uint32_t>(2.0f));
  EXPECT_EQ(MagnitudeBits(-0.0f, 0.0f), 0u);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(MagnitudeBits(-infinity, 0), 0x7F800000u);
  EXPECT_EQ(MagnitudeBits(infinity, infinity), 0x7FC00000u);
  EXPECT_EQ(MagnitudeBits(std::bit_cast<float>(0xFFFFFFFF), 0), 0x7FC00000u);
  EXPECT_EQ(MagnitudeBits(std::bit_cast<float>(0x7F800001), 0), 0x7FC00000u);
}

TEST(Select, KeysOrderLikeTheMagnitudes) {
  using reference::MagnitudeKey;
  EXPECT_EQ(MagnitudeKey(0), 0u);
  EXPECT_EQ(MagnitudeKey(1), 1u);
  EXPECT_EQ(MagnitudeKey(0xFFFF), 1u);
  EXPECT_EQ(MagnitudeKey(0x10000), 2u);
  EXPECT_EQ(MagnitudeKey(0x7FC00000), 0xFF80u);
  uint32_t last = 0;
  for (const uint32_t bits : {0u, 1u, 0xFFFFu, 0x10000u, 0x10001u, 0x3F800000u, 0x3F800001u, 0x7FC00000u}) {
    const uint32_t key = MagnitudeKey(bits);
    EXPECT_GE(key, last);
    EXPECT_LE(LowestOfKey(key), bits);
    EXPECT_GE(HighestOfKey(key), bits);
    last = key;
  }
}

TEST(Select, MagnitudesAtEveryTarget) {
  const std::vector<float> x = OddFloats(300, 1, true), base = OddFloats(300, 2, true);
  for (uint64_t count = 0; count < 299; count += count < 40 ? 1 : 57) {
    std::vector<float> expected(299, 7);
    reference::Magnitudes(x.data() + 1, base.data() + 1, count, expected.data());
    ForEachTarget([&] {
      std::vector<float> magnitudes(299, 7);
      Magnitudes(x.data() + 1, base.data() + 1, count, magnitudes.data());
      ASSERT_TRUE(SameBits(magnitudes, expected)) << count;
    });
  }
}

TEST(Select, CountsOfKeysAtEveryTarget) {
  for (const int kind : {0, 1, 2}) {
    const auto floats = [&](uint32_t seed) {
      return kind == 2 ? CoarseFloats(8300, seed) : OddFloats(8300, seed, kind == 1);
    };
    const std::vector<float> x = floats(1), base = floats(2);
    for (const uint64_t count : {0, 1, 7, 8, 200, 255, 256, 257, 1000, 8192, 8299}) {
      std::vector<uint32_t> expected(kNumKeys, 3);
      std::vector<float> expected_magnitudes(8300, 7);
      reference::MagnitudeKeyCounts(x.data() + 1, base.data() + 1, count, expected.data(), &expected_magnitudes[1]);
      ForEachTarget([&] {
        for (const bool writes : {false, true}) {
          std::vector<uint32_t> counts(kNumKeys, 3);
          std::vector<float> magnitudes(8300, 7);
          MagnitudeKeyCounts(x.data() + 1, base.data() + 1, count, counts.data(), writes ? &magnitudes[1] : nullptr);
          ASSERT_EQ(counts, expected) << count;
          ASSERT_TRUE(!writes || SameBits(magnitudes, expected_magnitudes)) << count;
        }
      });
    }
  }
}

TEST(Select, CandidatesAtEveryTarget) {
  const uint32_t of_002 = std::bit_cast<uint32_t>(0.02f);
  const std::pair<uint32_t, uint32_t> brackets[] = {{of_002, of_002 + 0x30000},
                                                    {of_002 - 0x500000, of_002 + 0x500000},
                                                    {0, 0},
                                                    {0, 0x7FC00000},
                                                    {0x7F800000, 0x7F800000},
                                                    {0x7FC00000, 0x7FC00000},
                                                    {of_002 + 1, of_002}};
  for (const bool specials : {false, true}) {
    const std::vector<float> x = OddFloats(2000, 1, specials), base = OddFloats(2000, 2, specials);
    for (const auto& [low, high] : brackets) {
      MagnitudeBracket bracket = {.low = low, .high = high};
      // Some of the magnitudes that there are, from one end of the bracket to the other.
      for (const size_t num_common : {0, 1, 2, 3, 5, 8}) {
        for (uint64_t i = 1; i < 2000 && bracket.num_common < num_common; i += 7) {
          const uint32_t bits = reference::MagnitudeBits(x[i], base[i]);
          const auto end = bracket.common + bracket.num_common;
          if (bits < low || bits > high || std::find(bracket.common, end, bits) != end) continue;
          bracket.common[bracket.num_common++] = bits;
        }
        for (uint64_t count = 0; count < 1999; count += count < 70 ? 1 : 321) {
          BracketCounts expected_counts = {.above = 4, .common = {5}};
          std::vector<Candidate> expected(count);
          expected.resize(reference::CollectCandidates(x.data() + 1, base.data() + 1, count, bracket, 60000,
                                                       expected.data(), &expected_counts));
          ForEachTarget([&] {
            BracketCounts counts = {.above = 4, .common = {5}};
            std::vector<Candidate> candidates(count);
            candidates.resize(
                CollectCandidates(x.data() + 1, base.data() + 1, count, bracket, 60000, candidates.data(), &counts));
            ASSERT_TRUE(SameCounts(counts, expected_counts)) << count << " common " << bracket.num_common;
            ASSERT_TRUE(SameCandidates(candidates, expected)) << count << " common " << bracket.num_common;
          });
        }
      }
    }
  }
}

TEST(Select, CountsOfLowerBitsAtEveryTarget) {
  constexpr uint64_t kMost = 700;
  std::vector<float> values = OddFloats(kMost + 1, 1, true), zeros(kMost + 1);
  std::vector<float> magnitudes(kMost + 1);
  Magnitudes(values.data(), zeros.data(), values.size(), magnitudes.data());
  const auto upper = [&](uint64_t i) { return std::bit_cast<uint32_t>(magnitudes[i]) >> 16; };
  // The last one no number has; its sign is set.
  for (const std::vector<uint32_t>& uppers : {std::vector<uint32_t>{}, {upper(5)}, {upper(5), 0x7FC0, 0}, {0xBF80}}) {
    for (const uint64_t count : {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{16}, uint64_t{33}, kMost}) {
      const auto counted = [&](auto function) {
        std::vector<std::vector<uint32_t>> counts(uppers.size(), std::vector<uint32_t>(1 << 16));
        std::vector<uint32_t*> places;
        for (std::vector<uint32_t>& of : counts) places.push_back(of.data());
        function(magnitudes.data() + 1, count, uppers, places.data());
        return counts;
      };
      const auto expected = counted(reference::CountLowerBits);
      uint64_t total = 0;
      for (const auto& of : expected) total = std::accumulate(of.begin(), of.end(), total);
      if (count == kMost && uppers.size() == 1) EXPECT_EQ(total > 0, uppers[0] == upper(5));
      ForEachTarget([&] { ASSERT_EQ(counted(CountLowerBits), expected) << count; });
    }
  }
}

TEST(Select, EqualMagnitudesAtEveryTarget) {
  const std::vector<float> x = CoarseFloats(400, 1), base = CoarseFloats(400, 2);
  for (const uint64_t of : {1, 5, 9}) {
    const uint32_t bits = reference::MagnitudeBits(x[of], base[of]);
    for (uint64_t count = 0; count < 399; count += count < 70 ? 1 : 61) {
      std::vector<uint32_t> expected(14, 0xAAAAAAAA);
      reference::EqualMagnitudes(x.data() + 1, base.data() + 1, count, bits, expected.data());
      ForEachTarget([&] {
        std::vector<uint32_t> words(14, 0xAAAAAAAA);
        EqualMagnitudes(x.data() + 1, base.data() + 1, count, bits, words.data());
        ASSERT_EQ(words, expected) << count;
      });
    }
  }
}

// What they are for: the k-th largest, exactly, against a sort.
TEST(Select, FindsTheKthLargest) {
  constexpr uint64_t kCount = 60000;
  for (const bool coarse : {false, true}) {
    const std::vector<float> x = coarse ? CoarseFloats(kCount, 1) : OddFloats(kCount, 1, false);
    const std::vector<float> base = coarse ? CoarseFloats(kCount, 2) : OddFloats(kCount, 2, false);
    std::vector<uint32_t> sorted(kCount), counts(kNumKeys);
    for (uint64_t i = 0; i < kCount; ++i) sorted[i] = reference::MagnitudeBits(x[i], base[i]);
    std::sort(sorted.rbegin(), sorted.rend());
    MagnitudeKeyCounts(x.data(), base.data(), kCount, counts.data());
    for (const uint64_t k : {uint64_t{1}, uint64_t{100}, kCount / 2, kCount}) {
      uint32_t key = kNumKeys - 1;
      uint64_t above = 0;
      while (above + counts[key] < k) above += counts[key--];
      std::vector<Candidate> candidates(kCount);
      BracketCounts in_all;
      candidates.resize(CollectCandidates(x.data(), base.data(), kCount,
                                          {.low = LowestOfKey(key), .high = HighestOfKey(key)}, 0, candidates.data(),
                                          &in_all));
      EXPECT_EQ(in_all.above, above);
      ASSERT_EQ(candidates.size(), counts[key]);
      std::stable_sort(candidates.begin(), candidates.end(),
                       [](const Candidate& a, const Candidate& b) { return a.bits > b.bits; });
      EXPECT_EQ(candidates[k - above - 1].bits, sorted[k - 1]);
      if (key % 2 == 0) EXPECT_EQ(candidates.front().bits, candidates.back().bits);
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
