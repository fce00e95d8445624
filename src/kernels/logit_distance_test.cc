#include "kernels/logit_distance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/tiles.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

constexpr uint32_t kNoTargets[kTileTokens] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                                              UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                                              UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};

// A tile's logits over a whole vocabulary: [vocabulary][16].
LogitSummary SummaryOf(const TileFloats& logits) {
  LogitSummary whole = EmptyLogitSummary();
  for (uint64_t first = 0; first * kTileTokens < logits.size(); first += kLogitPanelRows) {
    LogitSummary panel;
    SummarizeLogits(logits.data() + first * kTileTokens, static_cast<uint32_t>(first),
                    std::min(kLogitPanelRows, logits.size() / kTileTokens - first), kNoTargets, &panel);
    MergeLogitSummary(panel, &whole);
  }
  return whole;
}

struct Sums {
  double of[kTileTokens] = {};
};
// 2 TV of each lane, panel by panel as a sink does it.
Sums DistancesOf(const TileFloats& a, const TileFloats& b, uint64_t shared_ids) {
  const LogitSummary of_a = SummaryOf(a), of_b = SummaryOf(b);
  const uint64_t ids = std::max(a.size(), b.size()) / kTileTokens;
  Sums whole;
  for (uint64_t first = 0; first < ids; first += kLogitPanelRows) {
    const auto rows = [&](const TileFloats& logits) {
      const uint64_t all = logits.size() / kTileTokens;
      return all > first ? std::min(kLogitPanelRows, all - first) : 0;
    };
    LogitPairPanel panel{nullptr, nullptr, rows(a), rows(b), 0};
    if (panel.a_rows > 0) panel.a = a.data() + first * kTileTokens;
    if (panel.b_rows > 0) panel.b = b.data() + first * kTileTokens;
    panel.shared_rows = std::min({shared_ids > first ? shared_ids - first : 0, panel.a_rows, panel.b_rows});
    double sums[kTileTokens];
    SumLogitDistances(panel, of_a, of_b, sums);
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) whole.of[lane] += sums[lane];
  }
  return whole;
}

// The plain formula in f64.
double TwiceTotalVariation(const TileFloats& a, const TileFloats& b, uint64_t shared_ids, uint64_t lane) {
  const auto probabilities = [&](const TileFloats& logits) {
    std::vector<double> p;
    double max = -kInfinity, sum = 0;
    for (uint64_t i = lane; i < logits.size(); i += kTileTokens) max = std::max<double>(max, logits[i]);
    for (uint64_t i = lane; i < logits.size(); i += kTileTokens) {
      p.push_back(std::exp(static_cast<double>(logits[i]) - max));
      sum += p.back();
    }
    for (double& one : p) one /= sum;
    return p;
  };
  const std::vector<double> p = probabilities(a), q = probabilities(b);
  double sum = 0;
  for (size_t id = 0; id < std::max(p.size(), q.size()); ++id) {
    const double of_a = id < p.size() ? p[id] : 0, of_b = id < q.size() ? q[id] : 0;
    sum += id < shared_ids ? std::abs(of_a - of_b) : of_a + of_b;
  }
  return sum;
}

TEST(LogitDistance, EverySizeIsTheReference) {
  const TileFloats a = NormalTiles(1024 * kTileTokens, 1, 5), b = NormalTiles(1024 * kTileTokens, 2, 5);
  const LogitSummary of_a = SummaryOf(a), of_b = SummaryOf(b);
  for (const uint64_t a_rows : {0, 1, 7, 8, 9, 100, 1023, 1024}) {
    for (const uint64_t b_rows : {0, 1, 8, 17, 1023, 1024}) {
      const uint64_t of_both = std::min(a_rows, b_rows);
      for (const uint64_t shared : {uint64_t{0}, of_both / 3, of_both}) {
        SCOPED_TRACE(testing::Message() << a_rows << " " << b_rows << " " << shared);
        const LogitPairPanel panel{a.data(), b.data(), a_rows, b_rows, shared};
        double expected[2][kTileTokens];
        for (const bool fused : {false, true}) {
          reference::SumLogitDistances(panel, of_a, of_b, expected[fused], fused);
        }
        ForEachTarget([&] {
          double sums[kTileTokens];
          SumLogitDistances(panel, of_a, of_b, sums);
          for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
            ASSERT_EQ(sums[lane], expected[FusesMultiplyAdd()][lane]) << lane;
          }
        });
      }
    }
  }
}

// The bound of logit_distance.h on TV, twice, for 5,000 ids.
const double kTolerance = 2 * (2e-7 + 1.2e-7 * std::log(5000));

// Lanes from far apart to nearly alike, over several panels.
TEST(LogitDistance, IsTheFormulaWhateverTheModelsShare) {
  constexpr uint64_t kIds = 5000;
  TileFloats a = NormalTiles(kIds * kTileTokens, 1, 3), b(a.size());
  const TileFloats noise = NormalTiles(a.size(), 2, 1);
  for (size_t i = 0; i < a.size(); ++i) {
    const auto lane = static_cast<float>(i % kTileTokens);
    a[i] += lane * static_cast<float>(i / 16 % 3000) / 1000;
    b[i] = a[i] + noise[i] * std::exp2(3 - lane);
  }
  for (const uint64_t b_ids : {kIds, kIds - 1, uint64_t{4096}, uint64_t{700}}) {
    const TileFloats fewer(b.begin(), b.begin() + static_cast<ptrdiff_t>(b_ids * kTileTokens));
    for (const uint64_t shared : {uint64_t{0}, uint64_t{1}, uint64_t{1024}, uint64_t{3500}, kIds}) {
      ForEachTarget([&] {
        const Sums one = DistancesOf(a, fewer, shared), other = DistancesOf(fewer, a, shared);
        for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
          const double expected = TwiceTotalVariation(a, fewer, shared, lane);
          EXPECT_NEAR(one.of[lane], expected, kTolerance) << b_ids << " " << shared << " " << lane;
          EXPECT_NEAR(other.of[lane], expected, kTolerance) << b_ids << " " << shared << " " << lane;
        }
      });
    }
  }
}

TEST(LogitDistance, EqualLogitsAreNothingApart) {
  const TileFloats a = NormalTiles(3000 * kTileTokens, 1, 8);
  ForEachTarget([&] {
    const Sums sums = DistancesOf(a, a, 3000);
    for (const double sum : sums.of) EXPECT_EQ(sum, 0);
  });
  // And one bit is something.
  TileFloats b = a;
  b[1500 * kTileTokens + 3] = std::nextafter(b[1500 * kTileTokens + 3], kInfinity);
  b[1500 * kTileTokens + 4] += 0.01f;
  const Sums sums = DistancesOf(a, b, 3000);
  EXPECT_GT(sums.of[4], 0);
  EXPECT_EQ(sums.of[5], 0);
}

// What is certain of one token each: of the same, of two, of one that the other model lacks.
TEST(LogitDistance, ItsEnds) {
  TileFloats a(2000 * kTileTokens, -200.0f), b = a;
  a[10 * kTileTokens] = b[10 * kTileTokens] = 50;                // the same
  a[10 * kTileTokens + 1] = 50, b[1999 * kTileTokens + 1] = 50;  // two
  a[1500 * kTileTokens + 2] = b[1500 * kTileTokens + 2] = 50;    // alike in number, but not shared
  const Sums sums = DistancesOf(a, b, 1400);
  EXPECT_NEAR(sums.of[0], 0, 1e-12);
  EXPECT_NEAR(sums.of[1], 2, 1e-12);
  EXPECT_NEAR(sums.of[2], 2, 1e-12);
}

// A padded vocabulary's -infinity has no mass; what is no distribution is NaN.
TEST(LogitDistance, InfinitiesAndNaN) {
  TileFloats a = NormalTiles(2500 * kTileTokens, 1, 3), b = NormalTiles(2500 * kTileTokens, 2, 3);
  for (uint64_t row = 0; row < 2500; ++row) {
    if (row < 1100 || row > 2000) a[row * kTileTokens] = -kInfinity;
    b[row * kTileTokens + 1] = -kInfinity;
  }
  a[700 * kTileTokens + 2] = kNaN;
  b[2400 * kTileTokens + 3] = kInfinity;
  const Sums sums = DistancesOf(a, b, 2500);
  EXPECT_NEAR(sums.of[0], TwiceTotalVariation(a, b, 2500, 0), kTolerance);
  for (const uint64_t lane : {1, 2, 3}) EXPECT_TRUE(std::isnan(sums.of[lane])) << lane;
  EXPECT_FALSE(std::isnan(sums.of[4]));
}

}  // namespace
}  // namespace sluice::kernels
