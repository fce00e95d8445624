#include "base/workers.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice {
namespace {

TEST(Workers, EachIndexOnce) {
  for (const int num_threads : {1, 2, 5}) {
    Workers workers(num_threads);
    ASSERT_EQ(workers.num_threads(), num_threads);
    for (uint64_t count = 0; count < 300; ++count) {
      std::vector<std::atomic<int>> seen(count);
      std::atomic<int> wrong_worker{0};
      workers.ParallelFor(count, [&](uint64_t index, int worker) {
        ++seen[index];
        if (worker < 0 || worker >= num_threads) ++wrong_worker;
      });
      for (uint64_t i = 0; i < count; ++i) ASSERT_EQ(seen[i], 1) << i << " of " << count;
      ASSERT_EQ(wrong_worker, 0);
    }
  }
}

TEST(Workers, ALoopSeesWhatTheOneBeforeItWrote) {
  Workers workers(3);
  std::vector<uint64_t> values(64, 0);
  for (uint64_t round = 1; round <= 2000; ++round) {
    workers.ParallelFor(values.size(), [&](uint64_t index, int) { values[index] += round - values[index]; });
  }
  for (const uint64_t value : values) ASSERT_EQ(value, 2000u);
}

}  // namespace
}  // namespace sluice
