// For tests: arrays aligned as tiles are, and comparisons of bits in which all NaNs are one.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "kernels/tile.h"

namespace sluice::kernels {

template <class T>
struct TileAllocator {
  using value_type = T;
  TileAllocator() = default;
  template <class U>
  TileAllocator(const TileAllocator<U>&) {}  // NOLINT: as allocators convert
  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kTileAlignment}));
  }
  void deallocate(T* at, size_t) { ::operator delete(at, std::align_val_t{kTileAlignment}); }
  bool operator==(const TileAllocator&) const { return true; }
};
using TileFloats = std::vector<float, TileAllocator<float>>;

// Normal with this deviation.
inline TileFloats NormalTiles(uint64_t count, uint32_t seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  TileFloats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline bool SameBitsButNaN(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}
// Index of the first that differs; the size where none does.
inline uint64_t FirstDifferenceButNaN(const TileFloats& a, const TileFloats& b) {
  uint64_t i = 0;
  while (i < a.size() && i < b.size() && SameBitsButNaN(a[i], b[i])) ++i;
  return i;
}

// Root mean square of a - b over that of b.
template <class A, class B>
double RelativeRms(const A& a, const B& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += (a[i] - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(error / size);
}

}  // namespace sluice::kernels
