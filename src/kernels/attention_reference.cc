// The sums of attention.h, one number at a time in the same order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/layer_ops.h"
#include "kernels/multiply_add.h"

namespace sluice::kernels::reference {
namespace {

// One query: lane `lane` of head `head`.
void AttentionOfOne(const AttentionArgs& args, uint64_t head, uint64_t lane, bool fused) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const float* q = args.q + head * args.head_dim * kTileTokens + lane;
  const uint64_t query = args.query_tile * kTileTokens + lane;
  const auto component = [&](const float* const* tiles, uint64_t key, uint64_t d) {
    const float* tile = tiles[key / kTileTokens - args.first_key_tile];
    return tile[(args.first_feature + d) * kTileTokens + key % kTileTokens];
  };
  const auto sees = [&](uint64_t key) { return key <= query && (args.window == 0 || query - key < args.window); };

  float max = kMinusInfinity, sum = 0;
  std::vector<float> out(args.head_dim, 0.0f);
  // A tile's queries go over the same keys, those of the tile's first query on.
  uint64_t key = FirstKeyTile(args.query_tile, args.window) * kTileTokens;
  while (key < (args.query_tile + 1) * kTileTokens) {
    const uint64_t end =
        std::min((args.query_tile + 1) * kTileTokens, (key / kAttentionKeyBlock + 1) * kAttentionKeyBlock);
    std::vector<float> scores;
    const float before = max;
    for (uint64_t j = key; j < end; ++j) {
      float score = 0;
      for (uint64_t d = 0; d < args.head_dim; ++d) {
        score = MultiplyAdd(component(args.keys, j, d), q[d * kTileTokens], score, fused);
      }
      score *= args.scale;
      if (args.soft_cap != 0) score = SoftCap(score, args.soft_cap, fused);
      scores.push_back(sees(j) ? score : kMinusInfinity);
      if (scores.back() > max || std::isnan(scores.back())) max = scores.back();
    }
    const float from = max == kMinusInfinity ? 0.0f : max;
    const float rescale = Exp(before - from, fused);
    sum *= rescale;
    for (float& o : out) o *= rescale;
    for (uint64_t j = key; j < end; ++j) {
      const float e = Exp(scores[j - key] - from, fused);
      sum += e;
      for (uint64_t d = 0; d < args.head_dim; ++d) {
        const float value = sees(j) ? component(args.values, j, d) : 0.0f;
        out[d] = MultiplyAdd(value, e, out[d], fused);
      }
    }
    key = end;
  }
  const float by = 1.0f / sum;
  for (uint64_t d = 0; d < args.head_dim; ++d) {
    args.out[(head * args.head_dim + d) * kTileTokens + lane] = out[d] * by;
  }
}

}  // namespace

void Attention(const AttentionArgs& args, bool fused) {
  for (uint64_t head = 0; head < args.num_heads; ++head) {
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) AttentionOfOne(args, head, lane, fused);
  }
}

}  // namespace sluice::kernels::reference
