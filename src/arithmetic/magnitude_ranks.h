// MagnitudeRanks: several order statistics of |x - base| over a tensor at once, for facts that need more than one, or
// more than that. A fold within a fold: its owner hands passes on until Finish says that all are known. The steps are
// magnitude_fact.h's; keys are counted once for all ranks.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "arithmetic/key_counts.h"
#include "arithmetic/magnitude_search.h"
#include "graph/node.h"
#include "kernels/mask_words.h"

namespace sluice::arithmetic {

class MagnitudeRanks {
 public:
  // The k-th largest magnitude and, of the elements that equal it, the last among the k first, in index order.
  using Rank = kernels::MagnitudePlace;
  static constexpr size_t kMostRanks = 3;

  // ks: kMostRanks at most, 1 <= k <= num_elements. Without wants_ties, the ranks' last ties are any: passes may be
  // saved.
  MagnitudeRanks(uint64_t num_elements, std::span<const uint64_t> ks, int num_workers,
                 const MagnitudeLimits& limits = {}, bool wants_ties = true);

  // Whether every magnitude of such a tensor is kept: then one pass does.
  static bool KeepsAll(uint64_t num_elements) { return MagnitudeTensor(num_elements, {}).keeps_all(); }

  // Of such a tensor, for who has the magnitudes from elsewhere: what they are to be written to instead of Add, and
  // what is to be called when they are, before Finish.
  KeptMagnitudes* kept() { return &*kept_; }
  // prepare(begin, magnitudes, count) is called for parts of them, in order, before those are counted.
  template <class Prepare>
  void CountKept(const Prepare& prepare) {
    kept_->ForBlocks([&](uint64_t begin, float* magnitudes, uint64_t count) {
      for (uint64_t at = 0; at < count; at += kCountedAtOnce) {
        const uint64_t part = std::min(kCountedAtOnce, count - at);
        prepare(begin + at, magnitudes + at, part);
        if (counts_) counts_->Count(0, magnitudes + at, kZeros, part);
      }
    });
  }

  // As graph::Fold has them; `in` is x and base, F32.
  bool Wants(uint64_t block) const;
  void Add(int worker, graph::Range piece, std::span<const graph::View> in);
  bool Finish();

  // Once Finish has said so.
  Rank rank(size_t i) const { return {searches_[i]->threshold_bits(), searches_[i]->last_tie()}; }

  // Most passes, how many are read as a rule, memory.
  static int MaxPasses(uint64_t num_elements);
  static double ExpectedPasses(uint64_t num_elements);
  static uint64_t StateBytes(uint64_t num_elements, size_t num_ranks, int num_workers);

 private:
  void AddPart(int worker, uint64_t begin, const float* x, const float* base, uint64_t count);
  bool Counts(uint64_t block) const { return counts_ && (!sampling_ || tensor_.IsSampled(block)); }
  void BeginCounts(bool sampling);
  void FinishKept();
  void CountLowerBits();

  static constexpr uint64_t kCountedAtOnce = 1024;
  static constexpr float kZeros[kCountedAtOnce] = {};

  const MagnitudeTensor tensor_;
  const size_t num_workers_;
  std::vector<std::unique_ptr<MagnitudeSearch>> searches_;
  std::shared_ptr<FoldMemory> memory_;
  std::optional<KeptMagnitudes> kept_;  // of a small tensor
  std::unique_ptr<KeyCounts> counts_;   // while keys are counted
  size_t num_groups_ = 0;               // of the counts
  bool sampling_ = false;               // they are of a sample
};

}  // namespace sluice::arithmetic
