// Causal attention of a tile of queries, online softmax over blocks of keys.
//
// Problem: scores of 512 queries with 512 keys are a quarter of a million numbers a head, of which none is needed
// twice; and a key or value must not be fetched again for every query and head.
//
// Idea: 16 queries in the lanes; keys and values are broadcast from the tiles that the product left, so nothing is
// transposed. A block of 64 keys and values (32 KiB for heads of 64) serves all heads of the group in turn, with scores
// in the first cache and the running outputs in `out`. Both products are register tiles as in product.cc.
#include "kernels/attention.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/simd.h"
#include "kernels/tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/exp_tanh-inl.h"

#ifndef SLUICE_KERNELS_ATTENTION_ONCE
#define SLUICE_KERNELS_ATTENTION_ONCE
namespace sluice::kernels {

constexpr uint64_t kBlockTiles = kAttentionKeyBlock / kTileTokens;
// Heads that pass over the keys together; what is left of the scratch holds their maxima and sums.
constexpr uint64_t kHeadsTogether = 32;
static_assert(kAttentionScratchFloats >= (kAttentionKeyBlock + 2 * kHeadsTogether) * kTileTokens);

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Tiles of keys of one block, as one key/value head sees them.
struct KeyBlock {
  uint64_t num_tiles;
  const float* keys[kBlockTiles];  // [head_dim][16 keys]
  const float* values[kBlockTiles];
  int64_t first_key[kBlockTiles];  // position, relative to the first query's
  bool masked[kBlockTiles];        // whether some query does not see some key
};

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As wide as there are: lanes never meet, so the width leaves no trace in the bits.
using DF = hn::CappedTag<float, kTileTokens>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using MF = hn::Mask<DF>;
constexpr uint64_t kLanes = hn::MaxLanes(DF());
constexpr uint64_t kVectors = kTileTokens / kLanes;  // of a tile's feature
// Features of a register tile of the second product; product.cc.
constexpr uint64_t kRows = kVectors == 1 ? 12 : kVectors == 2 ? 6 : kVectors == 4 ? 3 : 1;

// Which lanes, from `lane`, see the key at this place relative to the first query's.
HWY_INLINE MF Sees(const AttentionArgs& args, int64_t key, uint64_t lane) {
  const DI di;
  constexpr int64_t kTokens = kTileTokens;
  const auto queries = hn::Iota(di, static_cast<int32_t>(lane));
  const auto first = hn::Set(di, static_cast<int32_t>(std::clamp(key, -kTokens, kTokens)));
  auto sees = hn::Not(hn::Lt(queries, first));
  if (args.window != 0 && args.window < uint64_t{1} << 62) {
    const int64_t end = std::clamp(key + static_cast<int64_t>(args.window), -kTokens, kTokens);
    sees = hn::And(sees, hn::Lt(queries, hn::Set(di, static_cast<int32_t>(end))));
  }
  return hn::RebindMask(DF(), sees);
}

// Scores of kNum keys of a tile, from `key` on, to scores [16 keys][16].
template <uint64_t kNum>
HWY_INLINE void ScoreKeys(const AttentionArgs& args, const float* q, const float* keys, uint64_t key, float* scores) {
  const DF df;
  VF sums[kNum][kVectors];
#pragma GCC unroll 16
  for (uint64_t j = 0; j < kNum; ++j) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) sums[j][v] = hn::Zero(df);
  }
  const float* const end = q + args.head_dim * kTileTokens;
  for (keys += key; q != end; q += kTileTokens, keys += kTileTokens) {
    VF x[kVectors];
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) x[v] = hn::Load(df, q + v * kLanes);
#pragma GCC unroll 16
    for (uint64_t j = 0; j < kNum; ++j) {
      const VF k = hn::Set(df, keys[j]);
#pragma GCC unroll 16
      for (uint64_t v = 0; v < kVectors; ++v) sums[j][v] = hn::MulAdd(k, x[v], sums[j][v]);
    }
  }
  const VF scale = hn::Set(df, args.scale);
#pragma GCC unroll 16
  for (uint64_t j = 0; j < kNum; ++j) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) {
      hn::Store(hn::Mul(sums[j][v], scale), df, scores + (key + j) * kTileTokens + v * kLanes);
    }
  }
}

// Scores of a tile of keys; -infinity where a query does not see the key.
HWY_INLINE void ScoreTile(const AttentionArgs& args, const float* q, const KeyBlock& block, uint64_t tile,
                          float* scores) {
  const float* const keys = block.keys[tile];
  // 16 keys, in as many register tiles of nearly equal size as are needed.
  if constexpr (kVectors == 1) {
    ScoreKeys<16>(args, q, keys, 0, scores);
  } else if constexpr (kVectors == 2) {
    ScoreKeys<6>(args, q, keys, 0, scores);
    ScoreKeys<5>(args, q, keys, 6, scores);
    ScoreKeys<5>(args, q, keys, 11, scores);
  } else if constexpr (kVectors == 4) {
    for (uint64_t key = 0; key < 12; key += 3) ScoreKeys<3>(args, q, keys, key, scores);
    for (uint64_t key = 12; key < 16; key += 2) ScoreKeys<2>(args, q, keys, key, scores);
  } else {
    for (uint64_t key = 0; key < 16; ++key) ScoreKeys<1>(args, q, keys, key, scores);
  }
  const DF df;
  if (args.soft_cap != 0) {
    const VF cap = hn::Set(df, args.soft_cap);
    for (uint64_t i = 0; i < kTileTokens * kTileTokens; i += kLanes) {
      hn::Store(hn::Mul(cap, exp_tanh::Tanh(df, hn::Div(hn::Load(df, scores + i), cap))), df, scores + i);
    }
  }
  if (block.masked[tile]) {
    const VF hidden = hn::Set(df, kMinusInfinity);
    for (uint64_t key = 0; key < kTileTokens; ++key) {
      for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
        float* const score = scores + key * kTileTokens + lane;
        const MF sees = Sees(args, block.first_key[tile] + static_cast<int64_t>(key), lane);
        hn::Store(hn::IfThenElse(sees, hn::Load(df, score), hidden), df, score);
      }
    }
  }
}

// Turns a block's scores into e^{s - max} and brings the running maximum and sum up to date. `rescale`: what the sums
// so far are to be multiplied by. All of one vector of lanes.
HWY_INLINE VF Softmax(uint64_t num_keys, float* scores, float* running_max, float* running_sum) {
  const DF df;
  const VF before = hn::Load(df, running_max);
  VF max = before;
  for (uint64_t key = 0; key < num_keys; ++key) max = hn::Max(max, hn::Load(df, scores + key * kTileTokens));
  // A query that has seen nothing but -infinity: e^{-infinity - 0} is 0 where e^{-infinity + infinity} would be NaN.
  const VF from = hn::IfThenZeroElse(hn::Eq(max, hn::Set(df, kMinusInfinity)), max);
  const VF rescale = exp_tanh::Exp(df, hn::Sub(before, from));
  VF sum = hn::Mul(hn::Load(df, running_sum), rescale);
  for (uint64_t key = 0; key < num_keys; ++key) {
    float* const score = scores + key * kTileTokens;
    const VF e = exp_tanh::Exp(df, hn::Sub(hn::Load(df, score), from));
    sum = hn::Add(sum, e);
    hn::Store(e, df, score);
  }
  hn::Store(max, df, running_max);
  hn::Store(sum, df, running_sum);
  return rescale;
}

// Tiles [begin, end) of a block, all of which are masked or none.
struct TileRun {
  uint64_t begin, end;
  bool begins;        // `out` is still to be begun, at 0
  const VF* rescale;  // what it is to be multiplied by first; null: nothing
};

// kNum features of the running output, from `feature` on: adds e v over a run's keys.
template <uint64_t kNum, bool kMasked>
HWY_INLINE void AddValues(const KeyBlock& block, const TileRun& run, uint64_t feature, const float* weights,
                          float* out) {
  const DF df;
  out += feature * kTileTokens;
  VF sums[kNum][kVectors];
#pragma GCC unroll 16
  for (uint64_t d = 0; d < kNum; ++d) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) {
      sums[d][v] = run.begins ? hn::Zero(df) : hn::Load(df, out + d * kTileTokens + v * kLanes);
      if (run.rescale != nullptr) sums[d][v] = hn::Mul(sums[d][v], run.rescale[v]);
    }
  }
  const float* e = weights + run.begin * kTileTokens * kTileTokens;
  for (uint64_t tile = run.begin; tile < run.end; ++tile) {
    const float* values = block.values[tile] + feature * kTileTokens;
    for (const float* const end = values + kTileTokens; values != end; ++values, e += kTileTokens) {
      if constexpr (kMasked) {
        // Not even 0 times a value that is not to be seen: it may be a NaN.
#pragma GCC unroll 16
        for (uint64_t v = 0; v < kVectors; ++v) {
          const VF weight = hn::Load(df, e + v * kLanes);
          const MF counts = hn::Ne(weight, hn::Zero(df));
#pragma GCC unroll 16
          for (uint64_t d = 0; d < kNum; ++d) {
            const VF value = hn::IfThenElseZero(counts, hn::Set(df, values[d * kTileTokens]));
            sums[d][v] = hn::MulAdd(value, weight, sums[d][v]);
          }
        }
      } else {
        VF weight[kVectors];
#pragma GCC unroll 16
        for (uint64_t v = 0; v < kVectors; ++v) weight[v] = hn::Load(df, e + v * kLanes);
#pragma GCC unroll 16
        for (uint64_t d = 0; d < kNum; ++d) {
          const VF value = hn::Set(df, values[d * kTileTokens]);
#pragma GCC unroll 16
          for (uint64_t v = 0; v < kVectors; ++v) sums[d][v] = hn::MulAdd(value, weight[v], sums[d][v]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (uint64_t d = 0; d < kNum; ++d) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) hn::Store(sums[d][v], df, out + d * kTileTokens + v * kLanes);
  }
}

// The features that are left, fewer than kRows.
template <uint64_t kNum, bool kMasked>
HWY_INLINE void AddLastValues(uint64_t features, const KeyBlock& block, const TileRun& run, uint64_t feature,
                              const float* weights, float* out) {
  if constexpr (kNum > 0) {
    if (features == kNum) {
      AddValues<kNum, kMasked>(block, run, feature, weights, out);
    } else {
      AddLastValues<kNum - 1, kMasked>(features, block, run, feature, weights, out);
    }
  }
}

// All features of a run.
template <bool kMasked>
HWY_NOINLINE void AddRun(const KeyBlock& block, const TileRun& run, uint64_t head_dim, const float* weights,
                         float* out) {
  uint64_t feature = 0;
  for (; feature + kRows <= head_dim; feature += kRows) {
    AddValues<kRows, kMasked>(block, run, feature, weights, out);
  }
  AddLastValues<kRows - 1, kMasked>(head_dim - feature, block, run, feature, weights, out);
}

// One head over one block.
void HeadOverBlock(const AttentionArgs& args, const KeyBlock& block, bool begins, const float* q, float* scores,
                   float* running_max, float* running_sum, float* out) {
  for (uint64_t tile = 0; tile < block.num_tiles; ++tile) {
    ScoreTile(args, q, block, tile, scores + tile * kTileTokens * kTileTokens);
  }
  VF rescale[kVectors];
  for (uint64_t v = 0; v < kVectors; ++v) {
    rescale[v] =
        Softmax(block.num_tiles * kTileTokens, scores + v * kLanes, running_max + v * kLanes, running_sum + v * kLanes);
  }
  TileRun run = {.begin = 0, .end = 0, .begins = begins, .rescale = begins ? nullptr : rescale};
  while (run.begin < block.num_tiles) {
    const bool masked = block.masked[run.begin];
    while (run.end < block.num_tiles && block.masked[run.end] == masked) ++run.end;
    masked ? AddRun<true>(block, run, args.head_dim, scores, out)
           : AddRun<false>(block, run, args.head_dim, scores, out);
    run = {.begin = run.end, .end = run.end, .begins = false, .rescale = nullptr};
  }
}

void Attention(const AttentionArgs& args) {
  const DF df;
  const uint64_t head_floats = args.head_dim * kTileTokens;
  const uint64_t first_query = args.query_tile * kTileTokens;
  const uint64_t first_tile = std::max(args.first_key_tile, FirstKeyTile(args.query_tile, args.window));
  float* const scores = args.scratch;
  float* const maxima = scores + kAttentionKeyBlock * kTileTokens;
  float* const sums = maxima + kHeadsTogether * kTileTokens;
  for (uint64_t first_head = 0; first_head < args.num_heads; first_head += kHeadsTogether) {
    const uint64_t num_heads = std::min(kHeadsTogether, args.num_heads - first_head);
    const float* const q = args.q + first_head * head_floats;
    float* const out = args.out + first_head * head_floats;
    std::fill_n(maxima, num_heads * kTileTokens, kMinusInfinity);
    std::fill_n(sums, num_heads * kTileTokens, 0.0f);
    for (uint64_t tile = first_tile; tile <= args.query_tile;) {
      KeyBlock block = {};
      const uint64_t end = std::min(args.query_tile + 1, (tile / kBlockTiles + 1) * kBlockTiles);
      const bool begins = tile == first_tile;
      for (; tile < end; ++tile) {
        const uint64_t i = block.num_tiles++;
        block.keys[i] = args.keys[tile - args.first_key_tile] + args.first_feature * kTileTokens;
        block.values[i] = args.values[tile - args.first_key_tile] + args.first_feature * kTileTokens;
        block.first_key[i] = static_cast<int64_t>(tile * kTileTokens) - static_cast<int64_t>(first_query);
        block.masked[i] = tile == args.query_tile ||
                          (args.window != 0 && args.window < first_query + kTileTokens - tile * kTileTokens);
      }
      for (uint64_t head = 0; head < num_heads; ++head) {
        HeadOverBlock(args, block, begins, q + head * head_floats, scores, maxima + head * kTileTokens,
                      sums + head * kTileTokens, out + head * head_floats);
      }
    }
    for (uint64_t head = 0; head < num_heads; ++head) {
      for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
        const VF by = hn::Div(hn::Set(df, 1.0f), hn::Load(df, sums + head * kTileTokens + lane));
        float* const of_head = out + head * head_floats + lane;
        for (uint64_t i = 0; i < head_floats; i += kTileTokens) {
          hn::Store(hn::Mul(hn::Load(df, of_head + i), by), df, of_head + i);
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(Attention);

void Attention(const AttentionArgs& args) {
  SLUICE_CHECK(args.head_dim > 0 && args.head_dim % 2 == 0 && args.head_dim <= kAttentionMaxHeadDim);
  SLUICE_CHECK(args.first_key_tile <= FirstKeyTile(args.query_tile, args.window));
  HWY_DYNAMIC_DISPATCH(Attention)(args);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
