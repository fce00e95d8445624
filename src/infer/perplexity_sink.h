// PerplexitySink: what each model thinks of each token that is scored, from logits that are kept no longer than a
// panel.
//
// The token at position t is scored by the logits at t - 1. Models after the first are also compared with the first,
// token by token, where their vocabularies are of one size. Memory: 320 bytes a token tile and model alone, 768 a pair.
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
  // ranges: one for each sequence of the batch. vocabs: of the models. `batch` outlives it.
  PerplexitySink(const TokenBatch& batch, std::vector<ScoredRange> ranges, std::vector<uint64_t> vocabs);
  // The tiles that a pass must be asked for.
  static std::vector<uint64_t> WantedTiles(const TokenBatch& batch, const std::vector<ScoredRange>& ranges);

  void Take(const Panel& panel) override;

  // After the pass.
  TokenScores Scores(size_t model) const;
  // KL(first || model) of each scored token, nats. Empty where the vocabularies differ in size.
  std::vector<double> Divergences(size_t model) const;

 private:
  // Calls use(summary index of the tile, lane, the scored token) for each.
  template <class Use>
  void ForEachScored(const Use& use) const;
  bool IsPaired(size_t model) const { return model > 0 && vocabs_[model] == vocabs_[0]; }

  const TokenBatch& batch_;
  const std::vector<ScoredRange> ranges_;
  const std::vector<uint64_t> vocabs_;
  std::vector<uint32_t> place_of_tile_;  // in the summaries; UINT32_MAX: not wanted
  uint64_t num_places_ = 0;
  std::vector<kernels::LogitSummary> alone_;      // [model][place], of models that are in no pair
  std::vector<kernels::LogitPairSummary> pairs_;  // [model][place]
};

}  // namespace sluice::infer
