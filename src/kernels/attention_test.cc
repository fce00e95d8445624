#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/tiles.h"

namespace sluice::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Problem {
  uint64_t num_heads, head_dim, query_tile;
  uint64_t window = 0;
  float soft_cap = 0;
  float spread = 1;  // deviation of q
};

std::string Name(const Problem& p) {
  return std::to_string(p.num_heads) + " heads of " + std::to_string(p.head_dim) + ", query tile " +
         std::to_string(p.query_tile) + ", window " + std::to_string(p.window) + ", cap " + std::to_string(p.soft_cap);
}

// Tiles hold three key/value heads, of which the middle one is looked at.
struct Arrays {
  explicit Arrays(const Problem& p) : problem(p), q(NormalTiles(p.num_heads * p.head_dim * kTileTokens, 1, p.spread)) {
    for (uint32_t tile = 0; tile <= p.query_tile; ++tile) {
      keys.push_back(NormalTiles(3 * p.head_dim * kTileTokens, 100 + tile));
      values.push_back(NormalTiles(3 * p.head_dim * kTileTokens, 10000 + tile));
    }
    for (uint64_t tile = 0; tile <= p.query_tile; ++tile) {
      key_tiles.push_back(keys[tile].data());
      value_tiles.push_back(values[tile].data());
    }
  }
  AttentionArgs Args(float* out) {
    return {.q = q.data(),
            .num_heads = problem.num_heads,
            .head_dim = problem.head_dim,
            .query_tile = problem.query_tile,
            .keys = key_tiles.data(),
            .values = value_tiles.data(),
            .first_key_tile = 0,
            .first_feature = problem.head_dim,
            .window = problem.window,
            .scale = 1 / std::sqrt(static_cast<float>(problem.head_dim)),
            .soft_cap = problem.soft_cap,
            .out = out,
            .scratch = scratch.data()};
  }

  Problem problem;
  TileFloats q;
  std::vector<TileFloats> keys, values;
  std::vector<const float*> key_tiles, value_tiles;
  TileFloats scratch = TileFloats(kAttentionScratchFloats);
};

// The plain formula, no blocks, no running maximum, in f64.
std::vector<double> Exact(const AttentionArgs& args) {
  std::vector<double> out(args.num_heads * args.head_dim * kTileTokens);
  for (uint64_t head = 0; head < args.num_heads; ++head) {
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      const int64_t query = static_cast<int64_t>(args.query_tile * kTileTokens + lane);
      const auto window =
          static_cast<int64_t>(args.window == 0 ? INT64_MAX : std::min<uint64_t>(args.window, INT64_MAX));
      double sum = 0;
      for (int64_t key = 0; key <= query; ++key) {
        if (query - key >= window) continue;
        const uint64_t at = args.first_feature * kTileTokens + static_cast<uint64_t>(key) % kTileTokens;
        const uint64_t tile = static_cast<uint64_t>(key) / kTileTokens;
        double score = 0;
        for (uint64_t d = 0; d < args.head_dim; ++d) {
          score += static_cast<double>(args.q[(head * args.head_dim + d) * kTileTokens + lane]) *
                   args.keys[tile][at + d * kTileTokens];
        }
        score *= args.scale;
        if (args.soft_cap != 0) score = args.soft_cap * std::tanh(score / args.soft_cap);
        const double e = std::exp(score);
        sum += e;
        for (uint64_t d = 0; d < args.head_dim; ++d) {
          out[(head * args.head_dim + d) * kTileTokens + lane] += e * args.values[tile][at + d * kTileTokens];
        }
      }
      for (uint64_t d = 0; d < args.head_dim; ++d) out[(head * args.head_dim + d) * kTileTokens + lane] /= sum;
    }
  }
  return out;
}

void ExpectTheReference(const Problem& problem) {
  SCOPED_TRACE(Name(problem));
  Arrays arrays(problem);
  TileFloats expected[2];
  for (const bool fused : {false, true}) {
    expected[fused] = TileFloats(arrays.q.size());
    reference::Attention(arrays.Args(expected[fused].data()), fused);
  }
  TileFloats nothing(arrays.q.size());
  const std::vector<double> exact = Exact(arrays.Args(nothing.data()));
  ForEachTarget([&] {
    TileFloats out(arrays.q.size() + 16, 42.0f);
    Attention(arrays.Args(out.data()));
    ASSERT_EQ(out.back(), 42.0f);
    out.resize(arrays.q.size());
    ASSERT_EQ(FirstDifferenceButNaN(out, expected[FusesMultiplyAdd()]), out.size());
    // A score of up to 5 spread has an error of 2^-24 5 spread sqrt(head_dim)/2 or so, and passes it to e^s as it is.
    EXPECT_LT(RelativeRms(out, exact), 4e-7 * (1 + problem.spread)) << "against f64";
  });
}

TEST(Attention, EveryHeadSizeIsTheReference) {
  for (const uint64_t head_dim : {2, 4, 6, 8, 10, 12, 14, 22, 24, 64, 80, 96, 128, 256, 512}) {
    for (const uint64_t query_tile : {0, 1, 5}) {
      ExpectTheReference({.num_heads = 2, .head_dim = head_dim, .query_tile = query_tile});
      if (HasFatalFailure()) return;
    }
  }
  for (const uint64_t num_heads : {1, 3, 32, 33, 71}) {
    ExpectTheReference({.num_heads = num_heads, .head_dim = 16, .query_tile = 6});
  }
}

TEST(Attention, EveryLengthAndWindowIsTheReference) {
  for (uint64_t query_tile = 0; query_tile < 14; ++query_tile) {
    for (const uint64_t window : {0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 100, 223, 224, 1 << 30}) {
      ExpectTheReference({.num_heads = 2, .head_dim = 8, .query_tile = query_tile, .window = window});
      if (HasFatalFailure()) return;
    }
  }
  ExpectTheReference({.num_heads = 1, .head_dim = 8, .query_tile = 3, .window = UINT64_MAX});
}

TEST(Attention, SoftCapAndSharpScoresAreTheReference) {
  for (const float soft_cap : {0.0f, 50.0f, 2.0f}) {
    for (const float spread : {0.01f, 1.0f, 20.0f}) {
      ExpectTheReference({.num_heads = 2, .head_dim = 32, .query_tile = 9, .soft_cap = soft_cap, .spread = spread});
      ExpectTheReference(
          {.num_heads = 2, .head_dim = 32, .query_tile = 9, .window = 40, .soft_cap = soft_cap, .spread = spread});
    }
  }
}

TEST(Attention, FirstKeyTileIsTheFirstSeen) {
  EXPECT_EQ(FirstKeyTile(0, 0), 0u);
  EXPECT_EQ(FirstKeyTile(9, 0), 0u);
  EXPECT_EQ(FirstKeyTile(9, 1), 9u);
  EXPECT_EQ(FirstKeyTile(9, 2), 8u);   // 143
  EXPECT_EQ(FirstKeyTile(9, 17), 8u);  // 128
  EXPECT_EQ(FirstKeyTile(9, 18), 7u);
  EXPECT_EQ(FirstKeyTile(9, 144), 0u);
  EXPECT_EQ(FirstKeyTile(9, UINT64_MAX), 0u);
}

// The keys before the window change nothing, given or not.
TEST(Attention, KeysBeforeTheWindowNeedNotBeGiven) {
  const Problem problem = {.num_heads = 3, .head_dim = 24, .query_tile = 11, .window = 70};
  Arrays arrays(problem);
  ForEachTarget([&] {
    TileFloats all(arrays.q.size()), some(arrays.q.size());
    Attention(arrays.Args(all.data()));
    for (uint64_t first = 1; first <= FirstKeyTile(problem.query_tile, problem.window); ++first) {
      AttentionArgs args = arrays.Args(some.data());
      args.first_key_tile = first;
      args.keys += first;
      args.values += first;
      Attention(args);
      ASSERT_EQ(FirstDifferenceButNaN(some, all), all.size()) << first;
    }
  });
}

// A NaN in a key or a value reaches the queries that see it and no other; a NaN in a query its own output alone.
TEST(Attention, NaNReachesWhoSeesIt) {
  for (const uint64_t window : {0, 40}) {
    for (const uint64_t position : {3, 70, 86, 100, 105, 111}) {
      for (const bool in_key : {true, false}) {
        const Problem problem = {.num_heads = 2, .head_dim = 14, .query_tile = 6, .window = window};
        Arrays arrays(problem), broken(problem);
        auto& tile = (in_key ? broken.keys : broken.values)[position / kTileTokens];
        for (uint64_t d = 0; d < problem.head_dim; ++d) {
          tile[(problem.head_dim + d) * kTileTokens + position % kTileTokens] = kNaN;
        }
        ForEachTarget([&] {
          TileFloats clean(arrays.q.size()), out(arrays.q.size());
          Attention(arrays.Args(clean.data()));
          Attention(broken.Args(out.data()));
          for (size_t i = 0; i < out.size(); ++i) {
            const uint64_t query = problem.query_tile * kTileTokens + i % kTileTokens;
            const bool sees = position <= query && (window == 0 || query - position < window);
            ASSERT_TRUE(sees ? std::isnan(out[i]) : SameBitsButNaN(out[i], clean[i]))
                << "query " << query << ", key " << position << ", window " << window;
          }
        });
      }
    }
  }
  const Problem problem = {.num_heads = 1, .head_dim = 8, .query_tile = 5};
  Arrays arrays(problem), broken(problem);
  for (uint64_t lane = 2; lane < kTileTokens; ++lane) broken.q[lane] = lane % 2 == 0 ? kNaN : INFINITY;
  ForEachTarget([&] {
    TileFloats clean(arrays.q.size()), out(arrays.q.size());
    Attention(arrays.Args(clean.data()));
    Attention(broken.Args(out.data()));
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_TRUE(i % kTileTokens < 2 ? SameBitsButNaN(out[i], clean[i]) : std::isnan(out[i])) << i;
    }
  });
}

}  // namespace
}  // namespace sluice::kernels
