#include "infer/perplexity_sink.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::infer {

using kernels::kTileTokens;

std::vector<uint64_t> PerplexitySink::WantedTiles(const TokenBatch& batch, const std::vector<ScoredRange>& ranges) {
  std::vector<uint64_t> tiles;
  for (size_t sequence = 0; sequence < ranges.size(); ++sequence) {
    const auto& [begin, end] = ranges[sequence];
    SLUICE_CHECK(begin >= 1 && end <= batch.sequences()[sequence].size());
    if (begin >= end) continue;
    const uint64_t first = batch.first_tile(sequence);
    for (uint64_t tile = (begin - 1) / kTileTokens; tile <= (end - 2) / kTileTokens; ++tile)
      tiles.push_back(first + tile);
  }
  return tiles;
}

uint64_t PerplexitySink::MemoryBytes(uint64_t num_wanted_tiles, size_t num_models) {
  // Of a token: nll and top of each model, KL of each pair, and three lists that are sorted at a time.
  const uint64_t token = 12 * num_models + 8 * (num_models - 1) + 3 * 8;
  return num_wanted_tiles *
         (sizeof(kernels::LogitSummary) + (num_models - 1) * sizeof(kernels::LogitPairSummary) + kTileTokens * token);
}

PerplexitySink::PerplexitySink(const TokenBatch& batch, std::vector<ScoredRange> ranges, size_t num_models)
    : batch_(batch),
      ranges_(std::move(ranges)),
      num_models_(num_models),
      place_of_tile_(batch.num_tiles(), UINT32_MAX) {
  SLUICE_CHECK(ranges_.size() == batch_.sequences().size());
  for (const uint64_t tile : WantedTiles(batch_, ranges_)) place_of_tile_[tile] = static_cast<uint32_t>(num_places_++);
  first_.assign(num_places_, kernels::EmptyLogitSummary());
  pairs_.assign((num_models_ - 1) * num_places_, kernels::EmptyLogitPairSummary());
}

void PerplexitySink::Take(const Panel& panel) {
  const TokenBatch::Tile& tile = batch_.tile(panel.tile);
  const std::vector<uint32_t>& ids = batch_.sequences()[tile.sequence];
  uint32_t targets[kTileTokens];
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const uint64_t next = tile.index * kTileTokens + lane + 1;
    targets[lane] = next < ids.size() ? ids[next] : UINT32_MAX;
  }
  const uint64_t place = place_of_tile_[panel.tile];
  const auto& [logits, rows] = panel.models[0];
  kernels::LogitSummary summary;
  kernels::SummarizeLogits(logits, panel.first_id, rows, targets, &summary);
  kernels::MergeLogitSummary(summary, &first_[place]);
  for (size_t model = 1; model < num_models_; ++model) {
    SLUICE_CHECK(panel.models[model].rows == rows);
    kernels::LogitPairSummary pair;
    kernels::SummarizeLogitPair(logits, panel.models[model].values, panel.first_id, rows, targets, &pair);
    kernels::MergeLogitPairSummary(pair, &pairs_[(model - 1) * num_places_ + place]);
  }
}

template <class Use>
void PerplexitySink::ForEachScored(const Use& use) const {
  for (size_t sequence = 0; sequence < ranges_.size(); ++sequence) {
    for (uint64_t token = ranges_[sequence].begin; token < ranges_[sequence].end; ++token) {
      const uint64_t tile = batch_.first_tile(sequence) + (token - 1) / kTileTokens;
      use(place_of_tile_[tile], (token - 1) % kTileTokens);
    }
  }
}

TokenScores PerplexitySink::Scores(size_t model) const {
  TokenScores scores;
  ForEachScored([&](uint64_t place, uint64_t lane) {
    const kernels::LogitSummary& summary = model == 0 ? first_[place] : Pair(model, place).b;
    scores.nll.push_back(kernels::LogSumExp(summary, lane) - static_cast<double>(summary.target[lane]));
    scores.top.push_back(summary.argmax[lane]);
  });
  return scores;
}

std::vector<double> PerplexitySink::Divergences(size_t model) const {
  std::vector<double> divergences;
  ForEachScored(
      [&](uint64_t place, uint64_t lane) { divergences.push_back(kernels::KlDivergence(Pair(model, place), lane)); });
  return divergences;
}

}  // namespace sluice::infer
