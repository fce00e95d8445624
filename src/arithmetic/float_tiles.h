// Tiles: views of F32 nodes in arrays of a fixed length, for loops that compilers make vectors of. A view may stand at
// any byte; a tile is aligned, and zero beyond what the view has.
#pragma once

#include <algorithm>
#include <cstring>

#include "graph/node.h"

namespace sluice::arithmetic {

constexpr uint64_t kTileFloats = 256;

// Elements [first, first + kTileFloats) of the view, as far as they go to `end`; all counted from the view's beginning.
inline void LoadTile(const graph::View& view, uint64_t first, uint64_t end, float* tile) {
  const uint64_t count = std::min(kTileFloats, end - first);
  std::memcpy(tile, view.data + first * sizeof(float), count * sizeof(float));
  std::fill(tile + count, tile + kTileFloats, 0.0f);
}

inline void StoreTile(const float* tile, uint64_t first, uint64_t end, uint8_t* out) {
  std::memcpy(out + first * sizeof(float), tile, std::min(kTileFloats, end - first) * sizeof(float));
}

// out[i] = body(i) over a tile; of `out`, body(i) may look at out[i] alone.
template <class Body>
inline void ForTile(float* out, const Body& body) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep
#endif
  for (uint64_t i = 0; i < kTileFloats; ++i) out[i] = body(i);
}

}  // namespace sluice::arithmetic
