// What is told of a tensor beyond whether it changed: in how many directions, by how many units in the last place, in
// which rows, and whether its numbers lie on a grid.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/unit_distance.h"
#include "verify/effective_rank.h"
#include "verify/grid_check.h"

namespace sluice::verify {

// Changed elements by their distance in units in the last place of `encoding`, the coarser side's; numbers of the finer
// one are rounded to it. Pairs with an infinity or a NaN are not in it.
struct UnitHistogram {
  std::string encoding;
  kernels::UnitDistances distances;
  uint64_t same = 0;  // changed, but the same once rounded to `encoding`
};

// Rows of an embedding or a head: tokens.
struct RowChanges {
  static constexpr size_t kMostRanges = 64;
  uint64_t rows = 0, changed = 0;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // first and last; the first kMostRanges of them
  uint64_t num_ranges = 0;                            // all
};

struct TensorDetails {
  std::optional<EffectiveRank> rank;  // of matrices
  std::optional<UnitHistogram> units;
  std::optional<RowChanges> rows;
};

// How many of a model's matrices in plain floats lie on which grid.
struct GridCounts {
  uint64_t looked_at = 0;
  std::array<uint64_t, kGrids.size()> on{};

  uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t count : on) sum += count;
    return sum;
  }
};

}  // namespace sluice::verify
