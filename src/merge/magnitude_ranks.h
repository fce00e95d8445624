// MagnitudeRanks: several order statistics of |x - base| over a tensor at once, for facts that need more than one, or
// more than that. A fold within a fold: its owner hands passes on until Finish says that all are known.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "graph/node.h"

namespace sluice::merge {

class MagnitudeRanks {
 public:
  struct Rank {
    uint32_t bits = 0;      // of the k-th largest magnitude, as f32
    uint64_t last_tie = 0;  // of the elements that equal it, the last among the k first, in index order
  };

  // ks: 1 <= k <= num_elements.
  MagnitudeRanks(uint64_t num_elements, std::span<const uint64_t> ks, int num_workers);

  // As graph::Fold has them; `in` is x and base, F32.
  bool Wants(uint64_t block) const;
  void Add(int worker, graph::Range piece, std::span<const graph::View> in);
  bool Finish();

  const Rank& rank(size_t i) const { return ranks_[i]; }

  static int MaxPasses(uint64_t num_elements);
  static double ExpectedPasses(uint64_t num_elements);
  static uint64_t StateBytes(uint64_t num_elements, size_t num_ranks, int num_workers);

 private:
  std::vector<std::unique_ptr<graph::Fold>> folds_;  // null where the rank is known
  std::vector<Rank> ranks_;
};

}  // namespace sluice::merge
