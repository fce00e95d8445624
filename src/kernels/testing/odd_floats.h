// For tests: numbers as weights have them, and on demand the ones that break things.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

namespace sluice::kernels {

// Near 0.02 in size. With `specials` about one in eight is a zero, an infinity, a NaN, a subnormal or very large.
inline std::vector<float> OddFloats(uint64_t count, uint32_t seed, bool specials) {
  constexpr uint32_t kSpecials[] = {0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001,
                                    0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(count);
  for (float& value : values) {
    value = normal(random);
    if (specials && random() % 8 == 0) value = std::bit_cast<float>(kSpecials[random() % std::size(kSpecials)]);
  }
  return values;
}

// Of bf16's precision: differences of such numbers tie often.
inline std::vector<float> CoarseFloats(uint64_t count, uint32_t seed) {
  std::vector<float> values = OddFloats(count, seed, false);
  for (float& value : values) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xFFFF0000);
  return values;
}

// Equality of bits, for which NaN is no exception.
template <class T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace sluice::kernels
