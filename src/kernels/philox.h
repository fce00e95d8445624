// What the vector form of Philox4x32-10 (philox-inl.h) knows before it starts: the round keys, and what its first
// rounds make of those words of the counter that do not change within a block. base/counter_rng.h is the definition.
#pragma once

#include <cstdint>

#include "base/counter_rng.h"

namespace sluice::kernels {

// A mask's counters are 64-bit numbers (words 0 and 1), words 2 and 3 being zero, and eight in a row share word 1. So
// in round 1 one of the two products is 0, and in round 2 one is the same for all: six operations of eight are saved in
// round 1 and 2 each, one in round 3. Each constant stands in both halves of its 64 bits.
struct PhiloxSchedule {
  uint64_t round_1_word_2;                    // key
  uint64_t round_2_word_0;                    // key
  uint64_t round_2_word_2;                    // key ^ high half of the constant product
  uint64_t round_3_word_0;                    // key
  uint64_t round_3_word_2;                    // key ^ low half of the constant product
  uint64_t later_word_0[7], later_word_2[7];  // keys of rounds 4 to 10
};

inline PhiloxSchedule MakePhiloxSchedule(PhiloxKey key, uint32_t counter_word_1) {
  const auto both = [](uint32_t word) { return uint64_t{word} << 32 | word; };
  uint32_t k0[10], k1[10];
  for (uint32_t round = 0; round < 10; ++round) {
    k0[round] = key.k0 + round * 0x9E3779B9;
    k1[round] = key.k1 + round * 0xBB67AE85;
  }
  const uint64_t product = uint64_t{0xD2511F53} * (counter_word_1 ^ k0[0]);  // of round 2, from word 0 after round 1
  PhiloxSchedule schedule;
  schedule.round_1_word_2 = both(k1[0]);
  schedule.round_2_word_0 = both(k0[1]);
  schedule.round_2_word_2 = both(k1[1] ^ static_cast<uint32_t>(product >> 32));
  schedule.round_3_word_0 = both(k0[2]);
  schedule.round_3_word_2 = both(k1[2] ^ static_cast<uint32_t>(product));
  for (int i = 0; i < 7; ++i) {
    schedule.later_word_0[i] = both(k0[i + 3]);
    schedule.later_word_2[i] = both(k1[i + 3]);
  }
  return schedule;
}

// Word 1 of the counters of the block of 32 elements that begins at `element`; the next 2^34 elements' is one more.
constexpr uint32_t CounterWord1(uint64_t element) { return static_cast<uint32_t>(element >> 34); }
constexpr uint64_t kElementsPerCounterWord1 = uint64_t{1} << 34;

}  // namespace sluice::kernels
