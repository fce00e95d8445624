// TokenBatch: the sequences of a pass, laid out in tiles of 16 tokens (kernels/tile.h). A token's place in its tile is
// its position modulo 16, whatever else is in the batch; the last tile of a sequence is padded. Immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/tile.h"

namespace sluice::infer {

// Tiles [begin, begin + count).
struct TileRun {
  uint64_t begin, count;
};
// Runs of neighbours among `tiles`, which ascend, of at most so many each.
std::vector<TileRun> RunsOf(const std::vector<uint64_t>& tiles, uint64_t max_count);

class TokenBatch {
 public:
  // None of them empty.
  explicit TokenBatch(std::vector<std::vector<uint32_t>> sequences);

  const std::vector<std::vector<uint32_t>>& sequences() const { return sequences_; }
  uint64_t num_tokens() const { return num_tokens_; }
  uint64_t num_tiles() const { return tiles_.size(); }
  uint64_t longest() const { return longest_; }  // tokens

  struct Tile {
    uint32_t sequence;
    uint32_t index;       // in its sequence: positions 16 index ..
    uint32_t num_tokens;  // 1 to 16
  };
  const Tile& tile(uint64_t tile) const { return tiles_[tile]; }
  uint64_t first_tile(uint64_t sequence) const { return first_tiles_[sequence]; }

  // A run of tiles that goes through a layer at once: of whole sequences, or a part of one, in order. The keys and
  // values that its queries see are those of tiles [keys_begin, begin + count).
  struct Chunk {
    uint64_t begin, count;
    uint64_t keys_begin;
  };
  std::vector<Chunk> Chunks(uint64_t max_tiles) const { return Chunks(max_tiles, 0, sequences_.size()); }
  std::vector<Chunk> Chunks(uint64_t max_tiles, size_t first_sequence, size_t end_sequence) const;

 private:
  std::vector<std::vector<uint32_t>> sequences_;
  std::vector<Tile> tiles_;
  std::vector<uint64_t> first_tiles_;
  uint64_t num_tokens_ = 0, longest_ = 0;
};

}  // namespace sluice::infer
