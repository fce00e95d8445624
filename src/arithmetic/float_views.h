// Views of F32 nodes as arrays of floats. A stored F32 tensor may stand at any byte of a file, a float array may not:
// where one is out of place the work is done through small aligned copies.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "graph/node.h"

namespace sluice::arithmetic {

inline bool IsFloatAligned(const uint8_t* data) { return reinterpret_cast<uintptr_t>(data) % alignof(float) == 0; }

inline bool AreFloatAligned(std::span<const graph::View> views) {
  for (const graph::View& view : views) {
    if (!IsFloatAligned(view.data)) return false;
  }
  return true;
}

// Elements per copy; a multiple of 32, the step of masks and lanes.
constexpr uint64_t kCopyElements = 256;

// Runs body(first, count) over [0, count), in parts for which FloatsAt gives arrays: all at once where `aligned`.
template <class Body>
void ForAlignedParts(uint64_t count, bool aligned, const Body& body) {
  const uint64_t step = aligned ? count : kCopyElements;
  for (uint64_t at = 0; at < count; at += step) body(at, at + step < count ? step : count - at);
}

// body(i) for i of [0, count). A whole part's loop has a constant length, which is what a compiler makes vectors of.
template <class Body>
inline void ForEachOfPart(uint64_t count, const Body& body) {
  if (count == kCopyElements) {
    for (uint64_t i = 0; i < kCopyElements; ++i) body(i);
  } else {
    for (uint64_t i = 0; i < count; ++i) body(i);
  }
}

// Floats [first, first + count) of a view; through `copy` (kCopyElements floats) where they are out of place.
inline const float* FloatsAt(const graph::View& view, uint64_t first, uint64_t count, float* copy) {
  const uint8_t* data = view.data + first * sizeof(float);
  if (IsFloatAligned(data)) return reinterpret_cast<const float*>(data);
  std::memcpy(copy, data, count * sizeof(float));
  return copy;
}

}  // namespace sluice::arithmetic
