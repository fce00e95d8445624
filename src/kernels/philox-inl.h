// Philox4x32-10 (base/counter_rng.h) for a block of 32 elements at a time, in vectors of 64-bit lanes.
//
// Problem: a random mask needs a word an element and model, and Philox's ten rounds of two 32 x 32 -> 64 bit products
// are most of what a merge computes.
//
// Idea: one counter in each 64-bit lane, where the processor multiplies 32 by 32 bits as it is. What lies above a word
// in its lane is not cleared, for a product looks at the low half alone. Even counters in one vector, odd ones in
// another: they are blended at the end, and the map from words to elements (task_vectors.h) is such that nothing is
// transposed.
//
// Gain: 1,760 M words/s on one core of a Zen 3 (AVX2), 230 one word at a time. Even and odd counters worked on side by
// side, and operations kept in the order written (Pin), are 1.3 times one after the other.

// Per-target include guard.
#if defined(SLUICE_KERNELS_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_PHILOX_INL_H_
#undef SLUICE_KERNELS_PHILOX_INL_H_
#else
#define SLUICE_KERNELS_PHILOX_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/philox.h"
#include "kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {
namespace philox {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

// A lane is too narrow for pairs of words.
inline void BlockWords(PhiloxKey key, const PhiloxSchedule&, uint64_t element, uint32_t* words) {
  for (uint32_t i = 0; i < 8; ++i) {
    const auto drawn = Philox4x32({static_cast<uint32_t>(element / 4 + i), CounterWord1(element), 0, 0}, key);
    for (uint32_t j = 0; j < 4; ++j) words[8 * j + i] = drawn[j];
  }
}

#else

using D64 = hn::CappedTag<uint64_t, kMaxVectorBytes / 8>;
using D32 = hn::Repartition<uint32_t, D64>;
using V64 = hn::Vec<D64>;

HWY_INLINE V64 Multiply(V64 a, V64 b) { return hn::MulEven(hn::BitCast(D32(), a), hn::BitCast(D32(), b)); }

// Keeps a value as it was computed: g++ would turn (a ^ b) ^ c, b and c there long before, into (a ^ c) ^ b, which is
// one operation longer from a to the result, and each round waits for the one before.
HWY_INLINE V64 Pin(V64 v) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL && HWY_TARGET != HWY_EMU128
  asm("" : "+x"(v.raw));
#endif
  return v;
}

// Words 0 to 3, each in the low half of its lane.
struct State {
  V64 c0, c1, c2, c3;
};

struct Constants {
  V64 m0, m1;  // the multipliers
};

HWY_INLINE void Rounds1To3(V64 counter, const Constants& c, const PhiloxSchedule& k, State* s) {
  const D64 d;
  V64 p0 = Multiply(counter, c.m0);
  s->c2 = hn::Xor(hn::ShiftRight<32>(p0), hn::Set(d, k.round_1_word_2));
  s->c3 = p0;

  V64 p1 = Multiply(s->c2, c.m1);
  s->c0 = hn::Xor(hn::ShiftRight<32>(p1), hn::Set(d, k.round_2_word_0));
  s->c1 = p1;
  s->c2 = hn::Xor(s->c3, hn::Set(d, k.round_2_word_2));

  p0 = Multiply(s->c0, c.m0);
  p1 = Multiply(s->c2, c.m1);
  s->c0 = hn::Xor(hn::ShiftRight<32>(p1), Pin(hn::Xor(s->c1, hn::Set(d, k.round_3_word_0))));
  s->c1 = p1;
  s->c2 = hn::Xor(hn::ShiftRight<32>(p0), hn::Set(d, k.round_3_word_2));
  s->c3 = p0;
}

HWY_INLINE void Round(const Constants& c, V64 key_0, V64 key_2, State* s) {
  const V64 p0 = Multiply(s->c0, c.m0), p1 = Multiply(s->c2, c.m1);
  s->c0 = hn::Xor(hn::ShiftRight<32>(p1), Pin(hn::Xor(s->c1, key_0)));
  s->c1 = p1;
  s->c2 = hn::Xor(hn::ShiftRight<32>(p0), Pin(hn::Xor(s->c3, key_2)));
  s->c3 = p0;
}

// The words of the 32 elements from `element`, a multiple of 32, in the elements' order. `schedule` is the key's for
// CounterWord1(element).
HWY_INLINE void BlockWords(PhiloxKey, const PhiloxSchedule& schedule, uint64_t element, uint32_t* words) {
  const D64 d;
  const D32 d32;
  constexpr uint64_t kCounters = 2 * hn::MaxLanes(D64());  // in a pair of vectors
  const Constants c = {hn::Set(d, 0xD2511F53), hn::Set(d, 0xCD9E8D57)};
  const V64 twice_lane = hn::ShiftLeft<1>(hn::Iota(d, 0));
  for (uint64_t i = 0; i < 8; i += kCounters) {
    // Two independent states side by side: as many as the registers of AVX2 hold, and enough to fill the multipliers.
    const V64 counter = hn::Add(hn::Set(d, element / 4 + i), twice_lane);
    State even, odd;
    Rounds1To3(counter, c, schedule, &even);
    Rounds1To3(hn::Or(counter, hn::Set(d, 1)), c, schedule, &odd);
    HWY_UNROLL(6)
    for (int round = 0; round < 6; ++round) {
      const V64 key_0 = hn::Set(d, schedule.later_word_0[round]), key_2 = hn::Set(d, schedule.later_word_2[round]);
      Round(c, key_0, key_2, &even);
      Round(c, key_0, key_2, &odd);
    }
    // Round 10 leaves the even counters' words in the low halves, the odd ones' in the high halves.
    const V64 key_0 = hn::Set(d, schedule.later_word_0[6]), key_2 = hn::Set(d, schedule.later_word_2[6]);
    Round(c, key_0, key_2, &even);
    const V64 p0 = Multiply(odd.c0, c.m0), p1 = Multiply(odd.c2, c.m1);
    odd.c0 = hn::Xor(p1, hn::Xor(hn::ShiftLeft<32>(odd.c1), key_0));
    odd.c1 = hn::ShiftLeft<32>(p1);
    odd.c2 = hn::Xor(p0, hn::Xor(hn::ShiftLeft<32>(odd.c3), key_2));
    odd.c3 = hn::ShiftLeft<32>(p0);
    const auto store = [&](V64 odd_words, V64 even_words, uint32_t* to) HWY_ATTR {
      hn::StoreU(hn::OddEven(hn::BitCast(d32, odd_words), hn::BitCast(d32, even_words)), d32, to + i);
    };
    store(odd.c0, even.c0, words);
    store(odd.c1, even.c1, words + 8);
    store(odd.c2, even.c2, words + 16);
    store(odd.c3, even.c3, words + 24);
  }
}

#endif  // HWY_SCALAR

}  // namespace philox
}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard
