// How many units in the last place lie between two arrays of stored floats: the histogram under `verify`.
//
// A code is sign and magnitude, its magnitudes in the order of the numbers (F32, F16, BF16, F8_E4M3, F8_E5M2), so the
// distance of two of one sign is that of their codes, of two signs the sum of their magnitudes: the numbers of the
// encoding that lie between. Dispatched; thread-safe.
#pragma once

#include <array>
#include <cstdint>

namespace sluice::kernels {

constexpr int kUnitBuckets = 33;

struct UnitDistances {
  // counts[0] of distance 1, counts[1] of 2, counts[2] of 3 and 4, counts[j] of 2^(j-1) + 1 to 2^j.
  std::array<uint64_t, kUnitBuckets> counts{};
  uint64_t sign_changes = 0;  // of these, where one is below zero and the other above

  void Add(const UnitDistances& other) {
    for (int i = 0; i < kUnitBuckets; ++i) counts[i] += other.counts[i];
    sign_changes += other.sign_changes;
  }
  uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t count : counts) sum += count;
    return sum;
  }
  bool operator==(const UnitDistances&) const = default;
};

// Codes of `code_bytes` 1, 2 or 4 bytes, of any alignment. Pairs at distance 0, and those of which a magnitude is
// `special` or above (infinities and NaNs), are not counted.
void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances);

namespace reference {
void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances);
}  // namespace reference

}  // namespace sluice::kernels
