// TopLogitsSink: the likeliest next tokens and their probabilities, from logits that are kept no longer than a panel:
// what is compared with a server that tells no more either.
//
// The token at position t is foretold by the logits at t - 1. One model. Deterministic: among equal logits the lower id
// ranks first. Memory: MemoryBytes, for the caller to lease before the pass.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "infer/forward_pass.h"
#include "infer/perplexity_sink.h"
#include "infer/token_batch.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {

struct TopTokens {
  std::vector<uint32_t> ids;  // ascending
  std::vector<double> probabilities;
  double cap = 0;  // no other id has more: the least of these, 0 where there is no other
};

class TopLogitsSink final : public LogitSink {
 public:
  // ranges: of each sequence the tokens whose distributions are wanted. count: ids of each, 1 or more. `batch` outlives
  // it.
  TopLogitsSink(const TokenBatch& batch, std::vector<ScoredRange> ranges, uint64_t count, uint64_t vocabulary);
  static uint64_t MemoryBytes(const TokenBatch& batch, const std::vector<ScoredRange>& ranges, uint64_t count,
                              uint64_t vocabulary);

  void Take(const Panel& panel) override;

  // After the pass, for begin <= position < end of its range. kCorrupt for a NaN.
  Result<TopTokens> Of(uint64_t sequence, uint64_t position) const;

 private:
  struct Place {
    uint32_t first_lane, end_lane;  // wanted of the tile
    uint64_t first_heap;
  };
  using Entry = std::pair<float, uint32_t>;

  const TokenBatch& batch_;
  const std::vector<ScoredRange> ranges_;
  const uint64_t count_, vocabulary_;
  std::vector<uint32_t> place_of_tile_;  // UINT32_MAX: not wanted
  std::vector<Place> places_;
  std::vector<kernels::LogitSummary> summaries_;  // [place]
  std::vector<std::vector<Entry>> heaps_;         // the least in front once there are count_
};

}  // namespace sluice::infer
