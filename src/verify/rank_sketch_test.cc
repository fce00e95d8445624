#include "verify/rank_sketch.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <utility>

#include <gtest/gtest.h>
#include <eigen3/Eigen/Core>
#include <eigen3/Eigen/SVD>

#include "kernels/delta_sketch.h"
#include "quant/encoding.h"

namespace sluice::verify {
namespace {

struct Pair {
  SketchShape shape;
  std::vector<float> a, b;
};

using Round = std::function<float(float)>;

float ToBf16(float value) {
  uint8_t bytes[2];
  float rounded;
  quant::BF16()->encode(&value, 1, bytes);
  quant::BF16()->decode(bytes, 1, &rounded);
  return rounded;
}
float Exactly(float value) { return value; }

// Weights as models have them, and B = round(A + L) with L of `rank` equally strong directions (0: A + full rank), of
// `strength` as its root mean square.
Pair MakePair(uint64_t rows, uint64_t columns, uint64_t rank, float strength, uint32_t seed,
              const Round& round = ToBf16) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Pair pair{.shape = {rows, columns}, .a = {}, .b = {}};
  Eigen::MatrixXf left(rows, rank), right(rank, columns);
  for (uint64_t j = 0; j < rank; ++j) {
    for (uint64_t i = 0; i < rows; ++i) left(i, j) = normal(random);
    for (uint64_t i = 0; i < columns; ++i) right(j, i) = normal(random);
  }
  const Eigen::MatrixXf update = left * right;
  const float scale = rank == 0 ? strength : strength / std::sqrt(static_cast<float>(rank));
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      pair.a.push_back(round(0.02f * normal(random)));
      pair.b.push_back(round(pair.a.back() + scale * (rank == 0 ? normal(random) : update(r, c))));
    }
  }
  return pair;
}

EffectiveRank Sketch(const Pair& pair, int significand_bits = 8) {
  RankSketch sketch;
  sketch.Begin(pair.shape);
  const std::vector<uint32_t> signs = ColumnSigns(pair.shape.columns);
  std::vector<float> scratch(RankSketch::kScratchFloats);
  double lanes[16] = {};
  uint64_t changed = 0;
  for (uint64_t at = 0; at < pair.a.size(); at += 8192) {
    const uint64_t count = std::min<uint64_t>(8192, pair.a.size() - at);
    sketch.Add(at, &pair.a[at], &pair.b[at], count, signs, scratch.data());
    kernels::AddSquaredBinades(&pair.a[at], &pair.b[at], count, 0x1p-126f, lanes);
  }
  for (size_t i = 0; i < pair.a.size(); ++i) changed += pair.a[i] != pair.b[i] ? 1 : 0;
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sketch.Finish(changed, std::ldexp(sum, 2 - 2 * significand_bits));
}

TEST(RankSketchTest, ExactRanksAreThoseOfADenseSvd) {
  for (const uint64_t rank : {1, 2, 5, 16, 30}) {
    // Numbers of few bits, so that A + L is exact and D is of that rank.
    Pair pair{.shape = {96, 160}, .a = {}, .b = {}};
    std::mt19937 random(static_cast<uint32_t>(rank));
    const auto few_bits = [&] { return static_cast<float>(static_cast<int>(random() % 15) - 7); };
    Eigen::MatrixXf left(96, rank), right(rank, 160);
    for (float& value : left.reshaped()) value = few_bits();
    for (float& value : right.reshaped()) value = few_bits();
    const Eigen::MatrixXf update = left * right;
    for (int r = 0; r < 96; ++r) {
      for (int c = 0; c < 160; ++c) {
        pair.a.push_back(few_bits());
        pair.b.push_back(pair.a.back() + update(r, c));
      }
    }
    Eigen::JacobiSVD<Eigen::MatrixXf> svd(update);
    svd.setThreshold(1e-4f);
    ASSERT_EQ(static_cast<uint64_t>(svd.rank()), rank);
    const EffectiveRank found = Sketch(pair, 24);
    EXPECT_EQ(found.kind, RankKind::kLow) << rank;
    EXPECT_EQ(found.rank, rank);
    EXPECT_NEAR(found.explained, 1, 1e-9);
    EXPECT_EQ(found.most, 32u);
  }
}

TEST(RankSketchTest, LowRanksAreFoundThroughRoundingToBf16) {
  for (const uint64_t rank : {1, 4, 8, 16}) {
    for (const float strength : {3e-5f, 1e-4f, 3e-4f, 1e-3f}) {  // an ulp of these weights is 1e-4 on the average
      for (const auto& [rows, columns] : {std::pair<uint64_t, uint64_t>{512, 512}, {256, 1024}, {1536, 384}}) {
        const EffectiveRank found = Sketch(MakePair(rows, columns, rank, strength, static_cast<uint32_t>(rank + rows)));
        EXPECT_EQ(found.kind, RankKind::kLow) << rank << " " << strength << " " << rows;
        if (rank == 16 && strength < 1e-4f) {
          // Three in ten elements change, and the weakest of 16 directions folded into 64 sums has a quarter of its
          // strength: on the edge of what is found.
          EXPECT_LE(found.rank, rank) << rows;
          EXPECT_GE(found.rank, rank - 2) << rows;
        } else {
          EXPECT_EQ(found.rank, rank) << strength << " " << rows;
        }
        EXPECT_LT(found.residual_ulps, 0.5) << rank << " " << strength << " " << rows;
      }
    }
  }
}

TEST(RankSketchTest, ALowRankStoredInF32IsFoundWhateverItsStrength) {
  for (const float strength : {1e-7f, 1e-5f, 1e-3f}) {
    const EffectiveRank found = Sketch(MakePair(300, 500, 8, strength, 5, Exactly), 24);
    EXPECT_EQ(found.kind, RankKind::kLow) << strength;
    EXPECT_EQ(found.rank, 8u) << strength;
  }
}

TEST(RankSketchTest, AFullFineTuneIsNotOfLowRank) {
  for (const float strength : {1e-5f, 3e-5f, 1e-4f, 1e-3f}) {
    const EffectiveRank found = Sketch(MakePair(512, 512, 0, strength, 7));
    EXPECT_NE(found.kind, RankKind::kLow) << strength;
    EXPECT_EQ(found.kind, strength < 5e-5f ? RankKind::kWithinRounding : RankKind::kFull) << strength;
    EXPECT_EQ(found.rank, 0u);
  }
  // A spectrum that falls as those of trained changes do: some directions stand out, and the rest is no rounding.
  Pair pair = MakePair(512, 512, 0, 3e-4f, 8);
  const Pair strong = MakePair(512, 512, 3, 2e-3f, 9);
  for (size_t i = 0; i < pair.b.size(); ++i) pair.b[i] = ToBf16(pair.b[i] + strong.b[i] - strong.a[i]);
  const EffectiveRank found = Sketch(pair);
  EXPECT_EQ(found.kind, RankKind::kFull);
  EXPECT_EQ(found.rank, 3u);
}

TEST(RankSketchTest, RoundingAloneHasNoRank) {
  for (const float spread : {0.0f, 0.4f}) {  // of the sizes of rows and of columns
    Pair pair = MakePair(576, 576, 0, 0, 11, Exactly);
    std::mt19937 random(12);
    std::normal_distribution<float> normal;
    std::vector<float> columns(576);
    for (float& column : columns) column = std::exp(spread * normal(random));
    for (size_t r = 0; r < 576; ++r) {
      const float row = std::exp(spread * normal(random));
      for (size_t c = 0; c < 576; ++c) {
        float& value = pair.a[r * 576 + c];
        value *= row * columns[c];
        pair.b[r * 576 + c] = ToBf16(value);
      }
    }
    const EffectiveRank found = Sketch(pair);
    EXPECT_EQ(found.kind, RankKind::kWithinRounding) << spread;
    EXPECT_EQ(found.rank, 0u) << spread;
    // The error is even between -1/2 and 1/2 of an ulp.
    EXPECT_NEAR(found.residual_ulps, std::sqrt(1.0 / 12), 0.03);
  }
}

TEST(RankSketchTest, OrderOfPiecesChangesNoBit) {
  const Pair pair = MakePair(700, 900, 4, 1e-4f, 13);
  const std::vector<uint32_t> signs = ColumnSigns(900);
  std::vector<float> scratch(RankSketch::kScratchFloats);
  std::vector<uint64_t> order;
  for (uint64_t at = 0; at < pair.a.size(); at += 8192) order.push_back(at);
  EffectiveRank first;
  for (const uint32_t seed : {0, 1, 2}) {
    if (seed > 0) std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    RankSketch sketch;
    sketch.Begin(pair.shape);
    for (const uint64_t at : order) {
      sketch.Add(at, &pair.a[at], &pair.b[at], std::min<uint64_t>(8192, pair.a.size() - at), signs, scratch.data());
    }
    const EffectiveRank found = sketch.Finish(pair.a.size(), 1);
    if (seed == 0) first = found;
    EXPECT_EQ(found.rank, first.rank);
    EXPECT_EQ(found.explained, first.explained);
    EXPECT_EQ(found.least_singular, first.least_singular);
    EXPECT_EQ(found.residual_ulps, first.residual_ulps);
  }
}

TEST(RankSketchTest, WhatCannotBeSketchedIsTold) {
  EXPECT_FALSE((SketchShape{7, 100}).Fits());
  EXPECT_FALSE((SketchShape{100, SketchShape::kMostColumns + 1}).Fits());
  EXPECT_TRUE((SketchShape{152'064, 8192}).Fits());
  RankSketch sketch;
  sketch.Begin({8, 8});
  EXPECT_EQ(sketch.Finish(0, 0).kind, RankKind::kNotSketched);
  sketch.Begin({8, 8});
  const std::vector<float> a(64), b(64, 1e7f);
  std::vector<float> scratch(RankSketch::kScratchFloats);
  sketch.Add(0, a.data(), b.data(), 64, ColumnSigns(8), scratch.data());
  const EffectiveRank found = sketch.Finish(64, 1);
  EXPECT_EQ(found.kind, RankKind::kNotSketched);
  EXPECT_EQ(found.reason, "its differences are too large");
}

// 2.02 is the quantile of 99% of Tracy and Widom's law for real matrices (Bejan 2005, table 1).
TEST(EffectiveRankTest, NoiseAloneIsAboveTheEdgeAsRarelyAsTheLawSays) {
  constexpr int kRuns = 1500;
  std::mt19937 random(17);
  std::normal_distribution<double> normal;
  int above = 0, far_above = 0;
  std::vector<double> eigenvalues(24);
  for (int run = 0; run < kRuns; ++run) {
    Eigen::MatrixXd noise(96, 24);
    for (double& value : noise.reshaped()) value = normal(random);
    const Eigen::MatrixXd gram = noise.transpose() * noise;
    SymmetricEigenvalues({gram.data(), 24 * 24}, 24, eigenvalues);
    above += CountAboveNoise(eigenvalues, 2.02) > 0 ? 1 : 0;
    far_above += CountAboveNoise(eigenvalues, kNoiseMargin) > 0 ? 1 : 0;
  }
  // 15 are expected, with a deviation of 4; moments that are estimated make it fewer.
  EXPECT_LE(above, 15 + 4 * 4);
  EXPECT_GT(above, 0);
  EXPECT_EQ(far_above, 0);
}

}  // namespace
}  // namespace sluice::verify
