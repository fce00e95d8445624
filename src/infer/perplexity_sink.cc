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

PerplexitySink::PerplexitySink(const TokenBatch& batch, std::vector<ScoredRange> ranges, std::vector<uint64_t> vocabs)
    : batch_(batch),
      ranges_(std::move(ranges)),
      vocabs_(std::move(vocabs)),
      place_of_tile_(batch.num_tiles(), UINT32_MAX) {
  SLUICE_CHECK(ranges_.size() == batch_.sequences().size());
  for (const uint64_t tile : WantedTiles(batch_, ranges_)) place_of_tile_[tile] = static_cast<uint32_t>(num_places_++);
  alone_.assign(vocabs_.size() * num_places_, kernels::EmptyLogitSummary());
  if (vocabs_.size() > 1) pairs_.assign(vocabs_.size() * num_places_, kernels::EmptyLogitPairSummary());
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
  for (size_t model = 0; model < panel.models.size(); ++model) {
    const auto& [logits, rows] = panel.models[model];
    if (rows == 0) continue;
    if (IsPaired(model)) {
      kernels::LogitPairSummary summary;
      kernels::SummarizeLogitPair(panel.models[0].values, logits, panel.first_id, rows, targets, &summary);
      kernels::MergeLogitPairSummary(summary, &pairs_[model * num_places_ + place]);
    } else {
      kernels::LogitSummary summary;
      kernels::SummarizeLogits(logits, panel.first_id, rows, targets, &summary);
      kernels::MergeLogitSummary(summary, &alone_[model * num_places_ + place]);
    }
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
    const uint64_t at = model * num_places_ + place;
    const kernels::LogitSummary& summary = IsPaired(model) ? pairs_[at].b : alone_[at];
    scores.nll.push_back(kernels::LogSumExp(summary, lane) - static_cast<double>(summary.target[lane]));
    scores.top.push_back(summary.argmax[lane]);
  });
  return scores;
}

std::vector<double> PerplexitySink::Divergences(size_t model) const {
  std::vector<double> divergences;
  if (!IsPaired(model)) return divergences;
  ForEachScored([&](uint64_t place, uint64_t lane) {
    divergences.push_back(kernels::KlDivergence(pairs_[model * num_places_ + place], lane));
  });
  return divergences;
}

}  // namespace sluice::infer
