// PerplexitySink: what each model thinks of each token that is scored, from logits that are kept no longer than a
// panel.
//
// The token at position t is scored by the logits at t - 1. Models after the first are also compared with the first,
// token by token: all vocabularies must be of one size. Memory: MemoryBytes, for the caller to lease before the pass.
#pragma once

#include <cstdint>
#include <vector>

#include "infer/forward_pass.h"
#include "infer/token_batch.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {

// Tokens [begin, end) of a sequence are scored; begin is 1 at least, end at most the sequence's length.
struct ScoredRange {
  uint64_t begin, end;
};

// Of all scored tokens, sequence after sequence, in order.
struct TokenScores {
  std::vector<double> nll;    // -ln p(token), nats
  std::vector<uint32_t> top;  // the likeliest id
};

class PerplexitySink final : public LogitSink {
 public:
  // ranges: one for each sequence of the batch. `batch` outlives it.
  PerplexitySink(const TokenBatch& batch, std::vector<ScoredRange> ranges, size_t num_models);
  // Of so many wanted tiles: the sink's own, and what Scores, Divergences and StatsOf make of it.
  static uint64_t MemoryBytes(uint64_t num_wanted_tiles, size_t num_models);
  // The tiles that a pass must be asked for.
  static std::vector<uint64_t> WantedTiles(const TokenBatch& batch, const std::vector<ScoredRange>& ranges);

  void Take(const Panel& panel) override;

  // After the pass.
  TokenScores Scores(size_t model) const;
  // KL(first || model) of each scored token, nats; model > 0.
  std::vector<double> Divergences(size_t model) const;

 private:
  // Calls use(summary index of the tile, lane, the scored token) for each.
  template <class Use>
  void ForEachScored(const Use& use) const;
  const kernels::LogitPairSummary& Pair(size_t model, uint64_t place) const {
    return pairs_[(model - 1) * num_places_ + place];
  }

  const TokenBatch& batch_;
  const std::vector<ScoredRange> ranges_;
  const size_t num_models_;
  std::vector<uint32_t> place_of_tile_;  // in the summaries; UINT32_MAX: not wanted
  uint64_t num_places_ = 0;
  std::vector<kernels::LogitSummary> first_;      // [place], of the first model
  std::vector<kernels::LogitPairSummary> pairs_;  // [model - 1][place], of the others beside it
};

}  // namespace sluice::infer
