#include "kernels/logit_panels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/tiles.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

void ExpectSame(const LogitSummary& a, const LogitSummary& b) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    EXPECT_TRUE(a.sum_exp[lane] == b.sum_exp[lane] || (std::isnan(a.sum_exp[lane]) && std::isnan(b.sum_exp[lane])));
    EXPECT_TRUE(SameBitsButNaN(a.target[lane], b.target[lane]));
    EXPECT_EQ(a.max[lane], b.max[lane]);
    EXPECT_EQ(a.argmax[lane], b.argmax[lane]);
  }
}

struct Targets {
  uint32_t ids[kTileTokens];
};
// Targets over the whole vocabulary, the last of which is none.
Targets TargetsOf(uint64_t vocabulary) {
  Targets targets;
  for (uint32_t lane = 0; lane < kTileTokens; ++lane) {
    targets.ids[lane] = static_cast<uint32_t>(vocabulary * lane / (kTileTokens - 1));
  }
  targets.ids[kTileTokens - 1] = UINT32_MAX;
  return targets;
}

TEST(LogitPanels, EverySizeIsTheReference) {
  for (const uint64_t rows : {0, 1, 2, 7, 8, 9, 15, 17, 100, 1023, 1024}) {
    for (const bool odd : {false, true}) {
      SCOPED_TRACE(std::to_string(rows) + (odd ? " odd" : ""));
      TileFloats a = NormalTiles(1024 * kTileTokens, 1, 5), b = NormalTiles(1024 * kTileTokens, 2, 5);
      if (odd && rows > 0) {
        for (uint64_t i = 0; i < rows; ++i) {
          a[i * kTileTokens + 1] = 0.5f;        // nothing but ties
          a[i * kTileTokens + 2] = -kInfinity;  // nothing at all
          b[i * kTileTokens + 3] = kNaN;
        }
        a[(rows - 1) * kTileTokens + 4] = kInfinity;
        a[rows / 2 * kTileTokens + 5] = kNaN;
        a[rows / 2 * kTileTokens + 6] = b[rows / 2 * kTileTokens + 6] = -kInfinity;
      }
      const Targets targets = TargetsOf(3072 + rows);
      LogitSummary expected[2];
      LogitPairSummary expected_pair[2];
      for (const bool fused : {false, true}) {
        reference::SummarizeLogits(a.data(), 2048, rows, targets.ids, &expected[fused], fused);
        reference::SummarizeLogitPair(a.data(), b.data(), 2048, rows, targets.ids, &expected_pair[fused], fused);
      }
      ForEachTarget([&] {
        const bool fused = FusesMultiplyAdd();
        LogitSummary summary;
        SummarizeLogits(a.data(), 2048, rows, targets.ids, &summary);
        ExpectSame(summary, expected[fused]);
        LogitPairSummary pair;
        SummarizeLogitPair(a.data(), b.data(), 2048, rows, targets.ids, &pair);
        ExpectSame(pair.a, expected_pair[fused].a);
        ExpectSame(pair.b, expected_pair[fused].b);
        for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
          const double x = pair.weighted[lane], y = expected_pair[fused].weighted[lane];
          ASSERT_TRUE(x == y || (std::isnan(x) && std::isnan(y))) << lane;
        }
      });
    }
  }
}

LogitPairSummary Whole(const TileFloats& a, const TileFloats& b, uint64_t vocabulary, const Targets& targets) {
  LogitPairSummary whole = EmptyLogitPairSummary();
  for (uint64_t row = 0; row < vocabulary; row += kLogitPanelRows) {
    LogitPairSummary panel;
    SummarizeLogitPair(a.data() + row * kTileTokens, b.data() + row * kTileTokens, static_cast<uint32_t>(row),
                       std::min(kLogitPanelRows, vocabulary - row), targets.ids, &panel);
    MergeLogitPairSummary(panel, &whole);
  }
  return whole;
}

// Against the plain formulas in f64, over a vocabulary of several panels whose maxima rise and fall.
TEST(LogitPanels, LossesAndDivergences) {
  constexpr uint64_t kVocabulary = 5000;
  TileFloats a = NormalTiles(kVocabulary * kTileTokens, 1, 3), b = a;
  const TileFloats noise = NormalTiles(a.size(), 2, 1);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] += static_cast<float>(i % 7) * static_cast<float>(i / 16 % 3000) / 1000;
    b[i] = a[i] + noise[i] * (i % kTileTokens < 8 ? 0.3f : 0.003f);
  }
  const Targets targets = TargetsOf(kVocabulary - 1);
  ForEachTarget([&] {
    const LogitPairSummary whole = Whole(a, b, kVocabulary, targets);
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      double sum_a = 0, sum_b = 0;
      uint64_t top = 0;
      for (uint64_t row = 0; row < kVocabulary; ++row) {
        sum_a += std::exp(static_cast<double>(a[row * kTileTokens + lane]));
        sum_b += std::exp(static_cast<double>(b[row * kTileTokens + lane]));
        if (a[row * kTileTokens + lane] > a[top * kTileTokens + lane]) top = row;
      }
      double kl = 0;
      for (uint64_t i = lane; i < a.size(); i += kTileTokens) {
        const double ln_p = a[i] - std::log(sum_a), ln_q = b[i] - std::log(sum_b);
        kl += std::exp(ln_p) * (ln_p - ln_q);
      }
      // A relative error of e^x of 1e-7 at most, much of it alike in all three.
      EXPECT_NEAR(LogSumExp(whole.a, lane), std::log(sum_a), 1e-7);
      EXPECT_NEAR(LogSumExp(whole.b, lane), std::log(sum_b), 1e-7);
      EXPECT_NEAR(KlDivergence(whole, lane), kl, 1e-7);
      EXPECT_EQ(whole.a.argmax[lane], top);
      if (targets.ids[lane] == UINT32_MAX) {
        EXPECT_TRUE(std::isnan(whole.a.target[lane]));
      } else {
        EXPECT_EQ(whole.a.target[lane], a[targets.ids[lane] * kTileTokens + lane]);
        EXPECT_EQ(whole.b.target[lane], b[targets.ids[lane] * kTileTokens + lane]);
      }
    }
  });
}

TEST(LogitPanels, EqualModelsDivergeByNothing) {
  const TileFloats a = NormalTiles(3000 * kTileTokens, 1, 3);
  const LogitPairSummary whole = Whole(a, a, 3000, TargetsOf(2999));
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) EXPECT_EQ(KlDivergence(whole, lane), 0.0);
}

TEST(LogitPanels, TheFirstOfEqualLogitsIsTheTop) {
  TileFloats a(3000 * kTileTokens, -1.0f);
  for (const uint64_t row : {1500, 1501, 2900}) {
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) a[row * kTileTokens + lane] = 2.0f;
  }
  const LogitPairSummary whole = Whole(a, a, 3000, TargetsOf(2999));
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) EXPECT_EQ(whole.a.argmax[lane], 1500u);
}

// A vocabulary's padding may be -infinity, whole panels of it too; a NaN anywhere shows.
TEST(LogitPanels, InfinitiesAndNaN) {
  TileFloats a = NormalTiles(3000 * kTileTokens, 1, 3);
  for (uint64_t row = 0; row < 3000; ++row) {
    if (row < 1024 || row > 2500) a[row * kTileTokens] = -kInfinity;
  }
  a[2000 * kTileTokens + 1] = kNaN;
  const LogitPairSummary whole = Whole(a, a, 3000, TargetsOf(2999));
  double sum = 0;
  for (uint64_t row = 1024; row <= 2500; ++row) sum += std::exp(static_cast<double>(a[row * kTileTokens]));
  EXPECT_NEAR(LogSumExp(whole.a, 0), std::log(sum), 1e-7);
  EXPECT_GE(whole.a.argmax[0], 1024u);
  EXPECT_NEAR(KlDivergence(whole, 0), 0, 1e-7);
  EXPECT_TRUE(std::isnan(LogSumExp(whole.a, 1)));
  EXPECT_TRUE(std::isnan(KlDivergence(whole, 1)));
}

}  // namespace
}  // namespace sluice::kernels
