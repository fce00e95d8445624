#include "arithmetic/magnitude_ranks.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/testing/odd_floats.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

// Three at once, each against a sort, by every way.
TEST(MagnitudeRanks, FindsSeveral) {
  constexpr uint64_t kCount = 5 * kBlockElements + 777;
  for (const int kind : {0, 1, 2}) {
    std::vector<float> x = kind == 0 ? kernels::CoarseFloats(kCount, 1) : kernels::OddFloats(kCount, 1, false);
    const std::vector<float> base = kind == 2 ? std::vector<float>(kCount) : kernels::CoarseFloats(kCount, 2);
    if (kind == 2) {  // the sampled blocks are nothing like the others: some ranks are missed
      for (uint64_t i = 0; i < kCount; ++i) x[i] = x[i] / 8 + (i / kBlockElements % 2 == 1 ? 1.0f : 1.125f);
    }
    std::vector<uint32_t> bits(kCount), order(kCount);
    for (uint64_t i = 0; i < kCount; ++i) bits[i] = kernels::reference::MagnitudeBits(x[i], base[i]);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return bits[a] > bits[b]; });
    const MagnitudeLimits ways[] = {
        {.all_blocks = 6},
        {.all_blocks = 0},
        {.all_blocks = 0, .max_candidates = 100},
        {.all_blocks = 0, .sample_above_blocks = 2, .sample_step = 2},
        {.all_blocks = 0, .sample_above_blocks = 2, .sample_step = 2, .max_candidates = 100},
    };
    for (const MagnitudeLimits& limits : ways) {
      const uint64_t ks[] = {kCount / 100, kCount / 2, kCount - 3};
      for (const bool wants_ties : {true, false}) {
        MagnitudeRanks ranks(kCount, ks, 2, limits, wants_ties);
        int passes = 0;
        do {
          ASSERT_LT(++passes, 12);
          for (uint64_t begin = 0; begin < kCount; begin += graph::kPieceElements) {
            const uint64_t block = begin / kBlockElements;
            if (!ranks.Wants(block)) continue;
            const graph::Range piece{begin, std::min(begin + graph::kPieceElements, kCount)};
            const graph::View views[] = {{reinterpret_cast<const uint8_t*>(&x[begin]), piece},
                                         {reinterpret_cast<const uint8_t*>(&base[begin]), piece}};
            ranks.Add(static_cast<int>(block % 2), piece, views);
          }
        } while (!ranks.Finish());
        EXPECT_LE(passes, MagnitudeRanks::MaxPasses(uint64_t{1} << 30));
        for (size_t i = 0; i < std::size(ks); ++i) {
          const uint32_t last = order[ks[i] - 1], next = order[ks[i]];
          EXPECT_EQ(ranks.rank(i).bits, bits[last]);
          if (!wants_ties) continue;
          if (bits[next] == bits[last] && bits[last] != 0) {  // of zeros it makes no difference which are kept
            EXPECT_EQ(ranks.rank(i).last_tie, last);
          } else {
            EXPECT_GE(ranks.rank(i).last_tie, last);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
