#include "infer/total_variation_sink.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/logit_distance.h"

namespace sluice::infer {
namespace {

using kernels::kTileTokens;

constexpr uint32_t kNoTargets[kTileTokens] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                                              UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
                                              UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};

}  // namespace

std::vector<uint64_t> TotalVariationSink::WantedTiles(const TokenBatch& batch,
                                                      const std::vector<uint32_t>& first_scored) {
  SLUICE_CHECK(first_scored.size() == batch.sequences().size());
  std::vector<uint64_t> tiles;
  for (size_t sequence = 0; sequence < first_scored.size(); ++sequence) {
    const uint64_t length = batch.sequences()[sequence].size();
    SLUICE_CHECK(first_scored[sequence] <= length);
    if (first_scored[sequence] == length) continue;
    for (uint64_t tile = first_scored[sequence] / kTileTokens; tile <= (length - 1) / kTileTokens; ++tile) {
      tiles.push_back(batch.first_tile(sequence) + tile);
    }
  }
  return tiles;
}

uint64_t TotalVariationSink::MemoryBytes(uint64_t num_wanted_tiles) {
  return num_wanted_tiles * (sizeof(TileState) + sizeof(uint64_t) + sizeof(uint32_t));
}

TotalVariationSink::TotalVariationSink(const TokenBatch& batch, uint64_t shared_ids, std::vector<uint32_t> first_scored)
    : batch_(batch),
      shared_ids_(shared_ids),
      first_scored_(std::move(first_scored)),
      place_of_tile_(batch.num_tiles(), UINT32_MAX) {
  const std::vector<uint64_t> wanted = WantedTiles(batch_, first_scored_);
  for (size_t place = 0; place < wanted.size(); ++place) place_of_tile_[wanted[place]] = static_cast<uint32_t>(place);
  tiles_.assign(wanted.size(), {{kernels::EmptyLogitSummary(), kernels::EmptyLogitSummary()}});
}

void TotalVariationSink::Take(const Panel& panel) {
  SLUICE_CHECK(panel.models.size() == 2);
  SLUICE_CHECK(place_of_tile_[panel.tile] < tiles_.size());
  TileState& tile = tiles_[place_of_tile_[panel.tile]];
  const LogitSink::Panel::Logits a = panel.models[0], b = panel.models[1];
  if (panel.run == 0) {
    for (size_t model = 0; model < 2; ++model) {
      const auto& [logits, rows] = panel.models[model];
      if (rows == 0) continue;
      kernels::LogitSummary summary;
      kernels::SummarizeLogits(logits, panel.first_id, rows, kNoTargets, &summary);
      kernels::MergeLogitSummary(summary, &tile.models[model]);
    }
    return;
  }
  const uint64_t of_both = std::min(a.rows, b.rows);
  const uint64_t shared = shared_ids_ > panel.first_id ? std::min(shared_ids_ - panel.first_id, of_both) : 0;
  double sums[kTileTokens];
  kernels::SumLogitDistances({a.values, b.values, a.rows, b.rows, shared}, tile.models[0], tile.models[1], sums);
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) tile.distance[lane] += sums[lane];
}

Result<double> TotalVariationSink::Score(uint64_t sequence) const {
  const uint64_t first = first_scored_[sequence], length = batch_.sequences()[sequence].size();
  SLUICE_CHECK(first < length);
  double sum = 0;
  for (uint64_t position = first; position < length; ++position) {
    const TileState& tile = tiles_[place_of_tile_[batch_.first_tile(sequence) + position / kTileTokens]];
    const uint64_t lane = position % kTileTokens;
    for (int model = 0; model < 2; ++model) {
      const double mass = tile.models[model].sum_exp[lane];
      if (std::isfinite(mass) && mass > 0 && std::isfinite(tile.models[model].max[lane])) continue;
      return Fail(ErrorCode::kCorrupt,
                  fmt::format("the logits of model {} at position {} of sequence {} are no distribution: one is not a "
                              "number or infinite, or all are -infinity",
                              model, position, sequence));
    }
    // Rounding may leave two distributions without a token in common a little more than 1 apart.
    sum += std::min(tile.distance[lane] / 2, 1.0);
  }
  return sum / static_cast<double>(length - first);
}

}  // namespace sluice::infer
