#include "infer/token_batch.h"

#include <algorithm>

#include "base/check.h"
#include "base/units.h"

namespace sluice::infer {

using kernels::kTileTokens;

std::vector<TileRun> RunsOf(const std::vector<uint64_t>& tiles, uint64_t max_count) {
  std::vector<TileRun> runs;
  for (const uint64_t tile : tiles) {
    if (!runs.empty() && runs.back().begin + runs.back().count == tile && runs.back().count < max_count) {
      ++runs.back().count;
    } else {
      runs.push_back({tile, 1});
    }
  }
  return runs;
}

TokenBatch::TokenBatch(std::vector<std::vector<uint32_t>> sequences) : sequences_(std::move(sequences)) {
  for (uint32_t sequence = 0; sequence < sequences_.size(); ++sequence) {
    const uint64_t length = sequences_[sequence].size();
    SLUICE_CHECK(length > 0);
    first_tiles_.push_back(tiles_.size());
    for (uint64_t at = 0; at < length; at += kTileTokens) {
      tiles_.push_back({sequence, static_cast<uint32_t>(at / kTileTokens),
                        static_cast<uint32_t>(std::min(kTileTokens, length - at))});
    }
    num_tokens_ += length;
    longest_ = std::max(longest_, length);
  }
}

std::vector<TokenBatch::Chunk> TokenBatch::Chunks(uint64_t max_tiles, size_t first_sequence,
                                                  size_t end_sequence) const {
  SLUICE_CHECK(max_tiles > 0);
  std::vector<Chunk> chunks;
  for (size_t sequence = first_sequence; sequence < end_sequence; ++sequence) {
    const uint64_t first = first_tiles_[sequence], count = CeilDiv(sequences_[sequence].size(), kTileTokens);
    if (!chunks.empty() && chunks.back().keys_begin == chunks.back().begin &&
        chunks.back().count + count <= max_tiles) {
      chunks.back().count += count;  // another whole sequence
      continue;
    }
    for (uint64_t at = 0; at < count; at += max_tiles) {
      chunks.push_back({first + at, std::min(max_tiles, count - at), first});
    }
  }
  return chunks;
}

}  // namespace sluice::infer
