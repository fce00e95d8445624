#include "infer/top_logits_sink.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::infer {
namespace {

using kernels::kTileTokens;

// Ranks before: larger, or of a lower id.
bool RanksBefore(const std::pair<float, uint32_t>& a, const std::pair<float, uint32_t>& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

}  // namespace

TopLogitsSink::TopLogitsSink(const TokenBatch& batch, std::vector<ScoredRange> ranges, uint64_t count,
                             uint64_t vocabulary)
    : batch_(batch),
      ranges_(std::move(ranges)),
      count_(std::min(count, vocabulary)),
      vocabulary_(vocabulary),
      place_of_tile_(batch.num_tiles(), UINT32_MAX) {
  SLUICE_CHECK(count >= 1 && ranges_.size() == batch_.sequences().size());
  uint64_t num_heaps = 0;
  for (const uint64_t tile : PerplexitySink::WantedTiles(batch_, ranges_)) {
    const auto& [sequence, index, num_tokens] = batch_.tile(tile);
    const auto [begin, end] = ranges_[sequence];
    const uint64_t first = uint64_t{index} * kTileTokens;
    const auto lane = [&](uint64_t token) {
      return static_cast<uint32_t>(std::clamp(token - 1, first, first + kTileTokens) - first);
    };
    place_of_tile_[tile] = static_cast<uint32_t>(places_.size());
    places_.push_back({lane(begin), lane(end), num_heaps});
    num_heaps += places_.back().end_lane - places_.back().first_lane;
  }
  summaries_.assign(places_.size(), kernels::EmptyLogitSummary());
  heaps_.resize(num_heaps);
  for (auto& heap : heaps_) heap.reserve(count_);
}

uint64_t TopLogitsSink::MemoryBytes(const TokenBatch& batch, const std::vector<ScoredRange>& ranges, uint64_t count,
                                    uint64_t vocabulary) {
  uint64_t num_positions = 0;
  for (const auto& [begin, end] : ranges) num_positions += end - begin;
  return PerplexitySink::WantedTiles(batch, ranges).size() * (sizeof(kernels::LogitSummary) + sizeof(Place)) +
         batch.num_tiles() * sizeof(uint32_t) +
         num_positions * (sizeof(std::vector<Entry>) + 16 + std::min(count, vocabulary) * sizeof(Entry));
}

void TopLogitsSink::Take(const Panel& panel) {
  const uint32_t at = place_of_tile_[panel.tile];
  const Place& place = places_[at];
  const auto& [logits, rows] = panel.models[0];
  uint32_t targets[kTileTokens];
  std::ranges::fill(targets, UINT32_MAX);
  kernels::LogitSummary summary;
  kernels::SummarizeLogits(logits, panel.first_id, rows, targets, &summary);
  kernels::MergeLogitSummary(summary, &summaries_[at]);
  for (uint32_t lane = place.first_lane; lane < place.end_lane; ++lane) {
    std::vector<Entry>& heap = heaps_[place.first_heap + lane - place.first_lane];
    for (uint64_t row = 0; row < rows; ++row) {
      const float logit = logits[row * kTileTokens + lane];
      if (heap.size() == count_) {
        if (!(logit > heap.front().first))
          continue;  // a later id of the same logit ranks behind; a NaN shows in the sum
        std::ranges::pop_heap(heap, RanksBefore);
        heap.back() = {logit, static_cast<uint32_t>(panel.first_id + row)};
      } else {
        heap.emplace_back(logit, static_cast<uint32_t>(panel.first_id + row));
      }
      std::ranges::push_heap(heap, RanksBefore);
    }
  }
}

Result<TopTokens> TopLogitsSink::Of(uint64_t sequence, uint64_t position) const {
  SLUICE_CHECK(position >= ranges_[sequence].begin && position < ranges_[sequence].end);
  const uint64_t tile = batch_.first_tile(sequence) + (position - 1) / kTileTokens;
  const uint32_t at = place_of_tile_[tile];
  const uint64_t lane = (position - 1) % kTileTokens;
  const double total = kernels::LogSumExp(summaries_[at], lane);
  if (!std::isfinite(total)) {
    return Fail(ErrorCode::kCorrupt, fmt::format("sequence {}, position {}: a logit is none", sequence, position));
  }
  std::vector<Entry> entries = heaps_[places_[at].first_heap + lane - places_[at].first_lane];
  std::ranges::sort(entries, {}, &Entry::second);
  TopTokens top;
  float least = entries.empty() ? 0 : entries[0].first;
  for (const auto& [logit, id] : entries) {
    top.ids.push_back(id);
    top.probabilities.push_back(std::min(1.0, std::exp(static_cast<double>(logit) - total)));
    least = std::min(least, logit);
  }
  if (count_ < vocabulary_) top.cap = std::min(1.0, std::exp(static_cast<double>(least) - total));
  return top;
}

}  // namespace sluice::infer
