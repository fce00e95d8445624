#include "infer/pass_layout.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "base/units.h"

namespace sluice::infer {
namespace {

// Shorter chunks read each weight from memory too often; a file is better than these, for hidden states.
constexpr uint64_t kMinChunkTiles = 4;

uint64_t Sum(const std::vector<uint64_t>& values) { return std::accumulate(values.begin(), values.end(), uint64_t{0}); }

// Whole sequences, in order, as many in a round as have room: calls end_round(the sequence behind it) for each.
template <class EndRound>
void ForEachRound(const std::vector<uint64_t>& sequence_tiles, uint64_t round_tiles, const EndRound& end_round) {
  uint64_t tiles = 0;
  for (size_t sequence = 0; sequence < sequence_tiles.size(); ++sequence) {
    if (sequence > 0 && tiles + sequence_tiles[sequence] > round_tiles) {
      end_round(sequence);
      tiles = 0;
    }
    tiles += sequence_tiles[sequence];
  }
  end_round(sequence_tiles.size());
}

struct Rounds {
  PassLayout layout;
  uint64_t reread_bytes;
};

// The split of `room` between hidden states and weights that stay which reads the fewest bytes again; none where the
// longest sequence has no room.
std::optional<Rounds> BestRounds(const PassDemand& demand, const PassLimits& limits, uint64_t chunk_tiles,
                                 uint64_t room) {
  const uint64_t all_weights = Sum(demand.step_bytes);
  const uint64_t longest = *std::ranges::max_element(demand.sequence_tiles);
  const uint64_t max_round_tiles = std::max(limits.max_round_tiles, longest);
  std::optional<Rounds> best;
  uint64_t kept_bytes = 0, best_round_tiles = 0;
  for (size_t kept = 0; kept <= demand.step_bytes.size(); ++kept) {
    if (kept > 0) kept_bytes += demand.step_bytes[kept - 1];
    if (kept_bytes > limits.max_kept_bytes || LeasedMemory(kept_bytes) > room) break;
    const uint64_t round_tiles =
        std::min((room - LeasedMemory(kept_bytes)) / demand.hidden_tile_bytes, max_round_tiles);
    if (round_tiles < longest) break;
    uint64_t num_rounds = 0;
    ForEachRound(demand.sequence_tiles, round_tiles, [&](size_t) { ++num_rounds; });
    const uint64_t reread = (num_rounds - 1) * (all_weights - kept_bytes);
    if (best && reread >= best->reread_bytes) continue;
    best = {{chunk_tiles, false, {}, kept, kept_bytes}, reread};
    best_round_tiles = round_tiles;
  }
  if (!best) return best;
  ForEachRound(demand.sequence_tiles, best_round_tiles, [&](size_t end) { best->layout.round_ends.push_back(end); });
  return best;
}

}  // namespace

uint64_t LeasedMemory(uint64_t kept_bytes) { return kept_bytes / 4 * 5; }

PassLayout LayOutPass(const PassDemand& demand, const PassLimits& limits) {
  SLUICE_CHECK(!demand.sequence_tiles.empty() && limits.max_chunk_tiles > 0);
  // What a layout leaves for hidden states and weights that stay.
  const auto room = [&](uint64_t chunk_tiles, bool spill) -> std::optional<uint64_t> {
    const uint64_t taken = demand.working_bytes(chunk_tiles, spill) + demand.stream_bytes;
    if (taken > limits.free_bytes) return std::nullopt;
    return limits.free_bytes - taken;
  };
  const std::vector<size_t> one_round = {demand.sequence_tiles.size()};
  const uint64_t all_tiles = Sum(demand.sequence_tiles), least_chunk = std::min(kMinChunkTiles, limits.max_chunk_tiles);

  std::optional<Rounds> rounds;
  if (limits.spill != Spill::kAlways) {
    for (uint64_t chunk = limits.max_chunk_tiles; chunk >= least_chunk && all_tiles <= limits.max_round_tiles;
         chunk /= 2) {
      const auto left = room(chunk, false);
      if (left && all_tiles * demand.hidden_tile_bytes <= *left) return {chunk, false, one_round, 0, 0};
    }
    for (uint64_t chunk = limits.max_chunk_tiles; chunk >= least_chunk && !rounds; chunk /= 2) {
      if (const auto left = room(chunk, false)) rounds = BestRounds(demand, limits, chunk, *left);
    }
  }
  uint64_t chunk = limits.max_chunk_tiles;
  while (chunk > 1 && !room(chunk, true)) chunk /= 2;
  const bool spill_moves_less = rounds && demand.spill_moved_bytes < rounds->reread_bytes && room(chunk, true);
  if (rounds && (limits.spill == Spill::kIfForced || !spill_moves_less)) return rounds->layout;
  return {chunk, true, one_round, 0, 0};
}

}  // namespace sluice::infer
