// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a random number
// is a pure function of a key and a counter, so any element of a mask can be drawn alone, in any order, on any machine.
// This is the readable reference; kernels/philox has the vector form.
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

struct PhiloxKey {
  uint32_t k0, k1;
};

// Ten rounds over the 128-bit counter c (word 0 least significant). Returns four independent uniform 32-bit words.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> c, PhiloxKey key);

}  // namespace sluice
