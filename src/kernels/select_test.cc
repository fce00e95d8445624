#include "kernels/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

bool SameCandidates(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Candidate& x, const Candidate& y) {
    return x.bits == y.bits && x.index_in_block == y.index_in_block;
  });
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

TEST(Select, HistogramAtEveryTarget) {
  for (const bool specials : {false, true}) {
    const std::vector<float> x = OddFloats(8300, 1, specials), base = OddFloats(8300, 2, specials);
    for (const uint64_t count : {0, 1, 7, 8, 200, 255, 256, 257, 1000, 8192, 8299}) {
      std::vector<uint64_t> expected(kCoarseBins, 3);
      reference::MagnitudeHistogram(x.data() + 1, base.data() + 1, count, expected.data());
      ForEachTarget([&] {
        std::vector<uint64_t> histogram(kCoarseBins, 3);
        MagnitudeHistogram(x.data() + 1, base.data() + 1, count, histogram.data());
        ASSERT_EQ(histogram, expected) << count;
      });
    }
  }
}

TEST(Select, CandidatesAtEveryTarget) {
  const uint32_t of_002 = std::bit_cast<uint32_t>(0.02f) >> 16;
  const std::pair<uint32_t, uint32_t> brackets[] = {{of_002, of_002 + 3},
                                                    {of_002 - 50, of_002 + 50},
                                                    {0, 0},
                                                    {0, kCoarseBins - 1},
                                                    {0x7F80, 0x7F80},
                                                    {0x7FC0, 0x7FC0},
                                                    {kCoarseBins - 1, kCoarseBins - 1},
                                                    {of_002 + 1, of_002}};
  for (const bool specials : {false, true}) {
    const std::vector<float> x = OddFloats(2000, 1, specials), base = OddFloats(2000, 2, specials);
    for (const auto& [lo, hi] : brackets) {
      for (uint64_t count = 0; count < 1999; count += count < 70 ? 1 : 321) {
        std::vector<Candidate> expected = {{1, 2}};
        const uint64_t expected_above =
            reference::CollectCandidates(x.data() + 1, base.data() + 1, count, lo, hi, 60000, &expected);
        ForEachTarget([&] {
          std::vector<Candidate> candidates = {{1, 2}};
          const uint64_t above = CollectCandidates(x.data() + 1, base.data() + 1, count, lo, hi, 60000, &candidates);
          ASSERT_EQ(above, expected_above);
          ASSERT_TRUE(SameCandidates(candidates, expected)) << count;
        });
      }
    }
  }
}

// What the two are for: the k-th largest, exactly, against a sort.
TEST(Select, FindsTheKthLargest) {
  constexpr uint64_t kCount = 60000;
  const std::vector<float> x = CoarseFloats(kCount, 1), base = CoarseFloats(kCount, 2);
  std::vector<uint32_t> sorted(kCount);
  for (uint64_t i = 0; i < kCount; ++i) sorted[i] = reference::MagnitudeBits(x[i], base[i]);
  std::sort(sorted.rbegin(), sorted.rend());
  std::vector<uint64_t> histogram(kCoarseBins);
  MagnitudeHistogram(x.data(), base.data(), kCount, histogram.data());
  for (const uint64_t k : {uint64_t{1}, uint64_t{100}, kCount / 2, kCount}) {
    uint32_t bin = kCoarseBins - 1;
    uint64_t above = 0;
    while (above + histogram[bin] < k) above += histogram[bin--];
    std::vector<Candidate> candidates;
    EXPECT_EQ(CollectCandidates(x.data(), base.data(), kCount, bin, bin, 0, &candidates), above);
    ASSERT_EQ(candidates.size(), histogram[bin]);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bits > b.bits; });
    EXPECT_EQ(candidates[k - above - 1].bits, sorted[k - 1]);
  }
}

}  // namespace
}  // namespace sluice::kernels
