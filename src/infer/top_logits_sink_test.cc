#include "infer/top_logits_sink.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::infer {
namespace {

using kernels::kLogitPanelRows;
using kernels::kTileTokens;

// Logits by token of the batch and id, handed over as a pass does.
void Feed(const TokenBatch& batch, const std::vector<ScoredRange>& ranges, uint64_t vocabulary,
          const std::vector<std::vector<float>>& logits, TopLogitsSink* sink) {
  for (uint64_t first = 0; first < vocabulary; first += kLogitPanelRows) {
    const uint64_t rows = std::min(kLogitPanelRows, vocabulary - first);
    for (const uint64_t tile : PerplexitySink::WantedTiles(batch, ranges)) {
      std::vector<float> panel(rows * kTileTokens, 0.0f);
      for (uint64_t lane = 0; lane < batch.tile(tile).num_tokens; ++lane) {
        const auto& of_token = logits[(tile * kTileTokens + lane) % logits.size()];
        for (uint64_t row = 0; row < rows; ++row) panel[row * kTileTokens + lane] = of_token[first + row];
      }
      const LogitSink::Panel::Logits one{panel.data(), rows};
      sink->Take({tile, static_cast<uint32_t>(first), {&one, 1}});
    }
  }
}

TEST(TopLogitsSinkTest, TheLikeliestOfEachPositionThatIsWanted) {
  constexpr uint64_t kVocabulary = 2500;  // three panels
  std::mt19937 words(4);
  std::normal_distribution<float> normal(0, 3);
  const TokenBatch batch({std::vector<uint32_t>(40, 1), std::vector<uint32_t>(5, 2), std::vector<uint32_t>(17, 3)});
  const std::vector<ScoredRange> ranges = {{30, 40}, {1, 5}, {16, 17}};
  std::vector<std::vector<float>> logits(batch.num_tiles() * kTileTokens);
  for (auto& of_token : logits) {
    of_token.resize(kVocabulary);
    for (float& logit : of_token) logit = std::round(normal(words) * 16) / 16;  // with equal ones
  }
  for (const uint64_t count : {uint64_t{1}, uint64_t{7}, uint64_t{100}, kVocabulary, kVocabulary + 5}) {
    TopLogitsSink sink(batch, ranges, count, kVocabulary);
    EXPECT_GE(TopLogitsSink::MemoryBytes(batch, ranges, count, kVocabulary), 15 * std::min(count, kVocabulary) * 8);
    Feed(batch, ranges, kVocabulary, logits, &sink);
    for (uint64_t sequence = 0; sequence < ranges.size(); ++sequence) {
      for (uint64_t position = ranges[sequence].begin; position < ranges[sequence].end; ++position) {
        const auto& truth = logits[batch.first_tile(sequence) * kTileTokens + position - 1];
        double total = 0;
        for (const float logit : truth) total += std::exp(static_cast<double>(logit));
        std::vector<uint32_t> ids(kVocabulary);
        std::iota(ids.begin(), ids.end(), 0u);
        std::ranges::stable_sort(ids, [&](uint32_t a, uint32_t b) { return truth[a] > truth[b]; });
        ids.resize(std::min(count, kVocabulary));
        const double least = std::exp(static_cast<double>(truth[ids.back()])) / total;
        std::ranges::sort(ids);
        const auto top = sink.Of(sequence, position);
        ASSERT_TRUE(top) << top.error().ToString();
        ASSERT_EQ(top->ids, ids) << sequence << " " << position;
        for (size_t i = 0; i < ids.size(); ++i) {
          // The normaliser's e^x are f32: 4 ulp, and their sum's.
          ASSERT_NEAR(top->probabilities[i], std::exp(static_cast<double>(truth[ids[i]])) / total, 2e-6);
        }
        EXPECT_NEAR(top->cap, count < kVocabulary ? least : 0, 2e-6);
      }
    }
  }
}

TEST(TopLogitsSinkTest, ANanIsAnError) {
  const TokenBatch batch({{1, 2, 3}});
  const std::vector<ScoredRange> ranges = {{1, 3}};
  std::vector<std::vector<float>> logits(kTileTokens, std::vector<float>(50, 1.0f));
  logits[1][49] = std::numeric_limits<float>::quiet_NaN();
  TopLogitsSink sink(batch, ranges, 5, 50);
  Feed(batch, ranges, 50, logits, &sink);
  EXPECT_TRUE(sink.Of(0, 1));
  const auto bad = sink.Of(0, 2);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace sluice::infer
