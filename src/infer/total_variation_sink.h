// TotalVariationSink: how far apart two models' next-token distributions are on the same tokens, one number in [0, 1]
// for each sequence, from logits that are kept no longer than they are computed with.
//
//   score(sequence) = mean over its scored positions t of TV(p_t, q_t),   p_t = softmax of the first model's logits at
//   t TV(p, q) = 1/2 (sum_{i < shared_ids} |p_i - q_i| + sum_{i >= shared_ids} p_i + sum_{i >= shared_ids} q_i)
//
// Position t's distribution is that of the token after t, which need not be in the sequence. Ids from shared_ids on are
// each model's own tokens; rows beyond a model's vocabulary have no mass. Exactly 0 where both models give equal
// logits; otherwise within 2e-6 of the formula (kernels/logit_distance.h). The bits depend on the logits alone.
//
// The pass must be of two models and head_runs 2. Memory: MemoryBytes, for the caller to lease before the pass.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "infer/forward_pass.h"
#include "infer/token_batch.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {

class TotalVariationSink final : public LogitSink {
 public:
  // first_scored: of each sequence; positions [first, its length) are scored, none where first is the length. `batch`,
  // mostly the pass' own, outlives it.
  TotalVariationSink(const TokenBatch& batch, uint64_t shared_ids, std::vector<uint32_t> first_scored);
  static uint64_t MemoryBytes(uint64_t num_wanted_tiles);
  // The tiles that a pass must be asked for.
  static std::vector<uint64_t> WantedTiles(const TokenBatch& batch, const std::vector<uint32_t>& first_scored);

  void Take(const Panel& panel) override;

  // After the pass; a sequence with at least one scored position. kCorrupt where logits are no distribution (a NaN, an
  // infinity, nothing but -infinity), naming model, sequence and position: all numbered from 0.
  Result<double> Score(uint64_t sequence) const;

 private:
  struct TileState {
    kernels::LogitSummary models[2];
    double distance[kernels::kTileTokens] = {};  // 2 TV
  };

  const TokenBatch& batch_;
  const uint64_t shared_ids_;
  const std::vector<uint32_t> first_scored_;
  std::vector<uint32_t> place_of_tile_;  // in tiles_; UINT32_MAX: not wanted
  std::vector<TileState> tiles_;
};

}  // namespace sluice::infer
