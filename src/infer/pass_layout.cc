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

// What stays in memory of the steps, as it grows.
class Keeping {
 public:
  Keeping(const PassDemand& demand, const PassLimits& limits)
      : demand_(demand), limits_(limits), order_(OrderOfKeeping(demand)) {
    for (size_t step = 0; step < demand.step_bytes.size(); ++step) (IsHead(step) ? heads_ : others_) += BytesOf(step);
  }
  // One step more, if there is one, the limit allows it and `room` has it.
  bool KeepOneMore(uint64_t room) {
    if (kept_steps_ == order_.size()) return false;
    const size_t step = order_[kept_steps_];
    const uint64_t kept_bytes = kept_bytes_ + BytesOf(step);
    if (kept_bytes > limits_.max_kept_bytes || LeasedMemory(kept_bytes) > room) return false;
    kept_bytes_ = kept_bytes;
    ++kept_steps_;
    (IsHead(step) ? heads_ : others_) -= BytesOf(step);
    return true;
  }
  uint64_t memory_bytes() const { return LeasedMemory(kept_bytes_); }
  uint64_t RereadBytes(uint64_t num_rounds) const {
    return (num_rounds - 1) * others_ + (num_rounds * static_cast<uint64_t>(demand_.head_runs) - 1) * heads_;
  }
  PassLayout Layout(uint64_t chunk_tiles, bool spill, std::vector<size_t> round_ends) const {
    const uint64_t reread_bytes = RereadBytes(round_ends.size());
    return {chunk_tiles, spill, std::move(round_ends), kept_steps_, kept_bytes_, reread_bytes};
  }

 private:
  bool IsHead(size_t step) const { return step + demand_.num_head_steps >= demand_.step_bytes.size(); }
  uint64_t BytesOf(size_t step) const { return demand_.step_bytes[step]; }

  const PassDemand& demand_;
  const PassLimits& limits_;
  const std::vector<size_t> order_;
  size_t kept_steps_ = 0;
  uint64_t kept_bytes_ = 0, heads_ = 0, others_ = 0;  // heads_, others_: not kept
};

// Everything in one round, with as many panels of heads as there is room for.
PassLayout OneRound(const PassDemand& demand, const PassLimits& limits, uint64_t chunk_tiles, bool spill,
                    uint64_t room) {
  Keeping keeping(demand, limits);
  while (keeping.RereadBytes(1) > 0 && keeping.KeepOneMore(room)) {
  }
  return keeping.Layout(chunk_tiles, spill, {demand.sequence_tiles.size()});
}

// The split of `room` between hidden states and weights that stay which reads the fewest bytes again; none where the
// longest sequence has no room.
std::optional<PassLayout> BestRounds(const PassDemand& demand, const PassLimits& limits, uint64_t chunk_tiles,
                                     uint64_t room) {
  const uint64_t longest = *std::ranges::max_element(demand.sequence_tiles);
  const uint64_t max_round_tiles = std::max(limits.max_round_tiles, longest);
  std::optional<Keeping> best;
  uint64_t least_bytes = 0, best_round_tiles = 0;
  Keeping keeping(demand, limits);
  do {
    const uint64_t round_tiles = std::min((room - keeping.memory_bytes()) / demand.hidden_tile_bytes, max_round_tiles);
    if (round_tiles < longest) break;
    uint64_t num_rounds = 0;
    ForEachRound(demand.sequence_tiles, round_tiles, [&](size_t) { ++num_rounds; });
    const uint64_t reread_bytes = keeping.RereadBytes(num_rounds);
    if (best && reread_bytes >= least_bytes) continue;
    best.emplace(keeping);
    least_bytes = reread_bytes;
    best_round_tiles = round_tiles;
  } while (keeping.KeepOneMore(room));
  if (!best) return std::nullopt;
  std::vector<size_t> round_ends;
  ForEachRound(demand.sequence_tiles, best_round_tiles, [&](size_t end) { round_ends.push_back(end); });
  return best->Layout(chunk_tiles, false, std::move(round_ends));
}

}  // namespace

uint64_t LeasedMemory(uint64_t kept_bytes) { return kept_bytes / 4 * 5; }

std::vector<size_t> OrderOfKeeping(const PassDemand& demand) {
  std::vector<size_t> order(demand.step_bytes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto heads = order.end() - static_cast<ptrdiff_t>(demand.num_head_steps);
  if (demand.head_runs > 1) std::rotate(order.begin(), heads, order.end());
  return order;
}

PassLayout LayOutPass(const PassDemand& demand, const PassLimits& limits) {
  SLUICE_CHECK(!demand.sequence_tiles.empty() && limits.max_chunk_tiles > 0);
  // What a layout leaves for hidden states and weights that stay.
  const auto room = [&](uint64_t chunk_tiles, bool spill) -> std::optional<uint64_t> {
    const uint64_t taken = demand.working_bytes(chunk_tiles, spill) + demand.stream_bytes;
    if (taken > limits.free_bytes) return std::nullopt;
    return limits.free_bytes - taken;
  };
  const uint64_t all_tiles = Sum(demand.sequence_tiles), least_chunk = std::min(kMinChunkTiles, limits.max_chunk_tiles);

  std::optional<PassLayout> rounds;
  if (limits.spill != Spill::kAlways) {
    std::optional<PassLayout> one_round;
    for (uint64_t chunk = limits.max_chunk_tiles; chunk >= least_chunk && all_tiles <= limits.max_round_tiles;
         chunk /= 2) {
      const auto left = room(chunk, false);
      const uint64_t hidden_bytes = all_tiles * demand.hidden_tile_bytes;
      if (!left || hidden_bytes > *left) continue;
      PassLayout layout = OneRound(demand, limits, chunk, false, *left - hidden_bytes);
      if (!one_round || layout.reread_bytes == 0) one_round = std::move(layout);
      if (one_round->reread_bytes == 0) break;
    }
    if (one_round) return *one_round;
    for (uint64_t chunk = limits.max_chunk_tiles; chunk >= least_chunk && !rounds; chunk /= 2) {
      if (const auto left = room(chunk, false)) rounds = BestRounds(demand, limits, chunk, *left);
    }
  }
  uint64_t chunk = limits.max_chunk_tiles;
  while (chunk > 1 && !room(chunk, true)) chunk /= 2;
  const auto left = room(chunk, true);
  PassLayout spilled = OneRound(demand, limits, chunk, true, left.value_or(0));
  const bool spill_moves_less =
      rounds && left && demand.spill_moved_bytes + spilled.reread_bytes < rounds->reread_bytes;
  if (rounds && (limits.spill == Spill::kIfForced || !spill_moves_less)) return *rounds;
  return spilled;
}

}  // namespace sluice::infer
