#include "base/counter_rng.h"

namespace sluice {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> c, PhiloxKey key) {
  constexpr uint64_t kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
  constexpr uint32_t kW0 = 0x9E3779B9, kW1 = 0xBB67AE85;  // golden ratio and sqrt(3) - 1: Weyl steps of the key
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kM0 * c[0], p1 = kM1 * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key.k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key.k1, static_cast<uint32_t>(p0)};
    key.k0 += kW0;
    key.k1 += kW1;
  }
  return c;
}

}  // namespace sluice
