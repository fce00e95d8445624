// Causal attention of one tile of queries: all query heads that share one key/value head, over the tiles of keys and
// values that they see; f32, online softmax (Milakov and Gimelshein, arXiv 1805.02867; Rabe and Staats, 2112.05682).
//
//   s_j = scale sum_d q_d k_jd;   s_j = soft_cap tanh(s_j / soft_cap) where soft_cap is not 0
//   out_d = sum_j e^{s_j - m} v_jd / sum_j e^{s_j - m},   m the largest s_j
//   over keys j at positions p - window < j <= p for the query at position p (window 0: all j <= p)
//
// Order: d ascending; keys ascending in blocks of kAttentionKeyBlock whose ends are at multiples of it by position (the
// sums so far are rescaled at each block where the maximum moves). So a token's bits depend on its position and on what
// it sees, not on which other tiles are given or by whom. Keys that a query may not see never touch it, NaN or not.
// Thread-safe, on the calling thread; a unit of work is a (query tile, key/value head).
//
// Reads each tile of K and V from memory once and then from the second cache, once for each head of the group.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace sluice::kernels {

constexpr uint64_t kAttentionKeyBlock = 64;
constexpr uint64_t kAttentionMaxHeadDim = 512;
// Constant: 8 KiB.
constexpr uint64_t kAttentionScratchFloats = kAttentionKeyBlock * kTileTokens * 2;

// The first tile of keys of which a query of this tile sees one.
constexpr uint64_t FirstKeyTile(uint64_t query_tile, uint64_t window) {
  const uint64_t first_query = query_tile * kTileTokens;
  return window == 0 || window > first_query ? 0 : (first_query - window + 1) / kTileTokens;
}

struct AttentionArgs {
  const float* q = nullptr;  // [num_heads][head_dim][16], rotated: the group's heads as the product leaves them
  uint64_t num_heads = 0;    // query heads of this key/value head
  uint64_t head_dim = 0;     // even, at most kAttentionMaxHeadDim
  uint64_t query_tile = 0;   // lane's position in its sequence: 16 query_tile + lane

  // Pointers to tiles first_key_tile .. query_tile of the same sequence, [features][16 keys] as the product leaves
  // them. first_key_tile is FirstKeyTile(query_tile, window), or any before it.
  const float* const* keys = nullptr;
  const float* const* values = nullptr;
  uint64_t first_key_tile = 0;
  uint64_t first_feature = 0;  // of this key/value head in those tiles: kv_head * head_dim

  uint64_t window = 0;  // keys seen, the query's own included; 0: all
  float scale = 1;      // 1/sqrt(head_dim), or what the config says
  float soft_cap = 0;   // 0: none

  float* out = nullptr;      // [num_heads][head_dim][16]; may not overlap q
  float* scratch = nullptr;  // kAttentionScratchFloats floats, aligned to 64 bytes
};
void Attention(const AttentionArgs& args);

namespace reference {
// The same sums in the same order with the same e^x and tanh, a lane at a time.
void Attention(const AttentionArgs& args, bool fused);
}  // namespace reference

}  // namespace sluice::kernels
