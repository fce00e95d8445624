// Planner: walks every group once, builds its nodes, adds up what they cost, and chooses tile and slots so that the
// work fits in the budget. Reads no weights but a short sample for the rate.
#pragma once

#include <vector>

#include "base/memory_budget.h"
#include "base/result.h"
#include "stream/stream.h"

namespace sluice::stream {

// What the engine runs by.
struct Layout {
  uint64_t tile_bytes = 0;  // of the widest stream of a job
  uint64_t slot_bytes = 0;  // tile plus the alignment of a window
  uint64_t num_slots = 0;
  uint64_t max_job_slots = 0;   // of the largest job
  uint64_t ahead_slots = 0;     // in jobs ahead of the consumer
  uint64_t hold_slots = 0;      // for tiles that wait for their facts
  uint64_t scratch_bytes = 0;   // per worker
  uint64_t fact_bytes = 0;      // for folds under way
  uint64_t max_fold_bytes = 0;  // of one group
  uint64_t kept_blocks = 0;     // of graph::kKeptBlockBytes, for what nodes compute while facts are folded
};

struct Planned {
  Plan plan;
  Layout layout;
};

Result<Planned> MakePlan(const GroupSource& groups, const StreamOptions& options);

// Facts of all nodes that `outs` are computed from, each key once, in the order in which the nodes look at them: that
// of keys would hang on where the files lie.
std::vector<const graph::Fact*> CollectFacts(std::span<const graph::Node* const> outs);

// Elements of a tile, so that no window and no output exceeds tile_bytes: whole blocks, or whole granules where the
// consumer asks for them, one fits, and no facts are folded.
uint64_t TileElements(std::span<const graph::Node* const> outs, uint64_t tile_bytes, uint64_t granule);

}  // namespace sluice::stream
