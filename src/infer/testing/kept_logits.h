// Keeps all logits of a pass, for tests.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "infer/forward_pass.h"

namespace sluice::tests {

// logits(model, sequence)[position * vocab + id]; NaN where no tile was asked for.
class KeptLogits final : public infer::LogitSink {
 public:
  // One batch for each pass.
  explicit KeptLogits(const infer::ForwardPass& pass) : batch_(pass.batch()) {
    for (size_t model = 0; model < pass.num_models(); ++model) {
      vocab_.push_back(pass.spec(model).vocab);
      for (const auto& sequence : batch_.sequences()) {
        logits_.emplace_back(sequence.size() * vocab_.back(), std::numeric_limits<float>::quiet_NaN());
      }
    }
  }
  void Take(const Panel& panel) override {
    const infer::TokenBatch::Tile& tile = batch_.tile(panel.tile);
    for (size_t model = 0; model < panel.models.size(); ++model) {
      float* out = logits_[model * batch_.sequences().size() + tile.sequence].data();
      for (uint64_t row = 0; row < panel.models[model].rows; ++row) {
        for (uint64_t lane = 0; lane < tile.num_tokens; ++lane) {
          out[(tile.index * kernels::kTileTokens + lane) * vocab_[model] + panel.first_id + row] =
              panel.models[model].values[row * kernels::kTileTokens + lane];
        }
      }
    }
  }
  const std::vector<float>& logits(size_t model, size_t sequence) const {
    return logits_[model * batch_.sequences().size() + sequence];
  }

 private:
  const infer::TokenBatch& batch_;
  std::vector<uint64_t> vocab_;
  std::vector<std::vector<float>> logits_;
};

inline std::vector<uint64_t> AllTiles(const infer::TokenBatch& batch) {
  std::vector<uint64_t> tiles(batch.num_tiles());
  for (uint64_t i = 0; i < tiles.size(); ++i) tiles[i] = i;
  return tiles;
}

}  // namespace sluice::tests
