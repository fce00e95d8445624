// Plain bytes, compared. Thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sluice::kernels {

// Index of the first byte in which a and b differ, or size.
inline uint64_t FirstDifference(const uint8_t* a, const uint8_t* b, uint64_t size) {
  constexpr uint64_t kStep = 4096;  // the C library compares at the memory's speed; the byte is sought in one step only
  for (uint64_t at = 0; at < size; at += kStep) {
    const uint64_t n = std::min(kStep, size - at);
    if (std::memcmp(a + at, b + at, n) == 0) continue;
    return at + static_cast<uint64_t>(std::mismatch(a + at, a + at + n, b + at).first - (a + at));
  }
  return size;
}

}  // namespace sluice::kernels
