#include "arithmetic/key_counts.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/testing/odd_floats.h"

namespace sluice::arithmetic {
namespace {

// Also where counters of 32 bits would soon be full.
TEST(KeyCounts, CountAndRank) {
  constexpr uint64_t kCount = 4000;
  const std::vector<float> x = kernels::CoarseFloats(kCount, 1), base = kernels::OddFloats(kCount, 2, false);
  std::vector<uint32_t> keys;
  for (uint64_t i = 0; i < kCount; ++i) {
    keys.push_back(kernels::reference::MagnitudeKey(kernels::reference::MagnitudeBits(x[i], base[i])));
  }
  std::ranges::sort(keys, std::greater<>());
  for (const uint64_t most_counted : {KeyCounts::kMostCounted, uint64_t{300}}) {
    for (const size_t groups : {1, 3}) {
      KeyCounts counts(groups, FoldMemory::Shared(), most_counted);
      for (uint64_t at = 0; at < kCount; at += 250) counts.Count(at / 250 % groups, &x[at], &base[at], 250);
      counts.AddUp();
      EXPECT_EQ(counts.total(), kCount);
      for (const uint64_t rank : {uint64_t{1}, uint64_t{2}, kCount / 2, kCount - 1, kCount}) {
        const uint32_t key = keys[rank - 1];
        EXPECT_EQ(counts.KeyOfRank(rank), key);
        EXPECT_EQ(counts.Above(key),
                  static_cast<uint64_t>(std::ranges::count_if(keys, [&](auto k) { return k > key; })));
        EXPECT_EQ(counts[key], static_cast<uint64_t>(std::ranges::count(keys, key)));
      }
    }
  }
}

TEST(KeyCounts, GroupsThatDifferHaveAVariance) {
  const std::vector<float> zeros(1000), ones(1000, 1);
  const uint32_t key_of_one = kernels::reference::MagnitudeKey(kernels::reference::MagnitudeBits(1, 0));
  KeyCounts alike(2, FoldMemory::Shared()), unlike(2, FoldMemory::Shared());
  alike.Count(0, ones.data(), zeros.data(), 1000);
  alike.Count(1, ones.data(), zeros.data(), 1000);
  unlike.Count(0, ones.data(), zeros.data(), 1000);
  unlike.Count(1, zeros.data(), zeros.data(), 1000);
  alike.AddUp();
  unlike.AddUp();
  EXPECT_EQ(alike.VarianceOfShares(key_of_one), 0);
  EXPECT_EQ(unlike.VarianceOfShares(key_of_one), 0.25);  // of shares 1 and 0: 1/2, of their mean half of that
}

}  // namespace
}  // namespace sluice::arithmetic
