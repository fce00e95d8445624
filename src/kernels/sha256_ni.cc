// Two SHA-256 computations interleaved in one thread.
//
// Problem: a digest hashes everything that is read, and one core hashes slower than a disk delivers.
//
// Idea: sha256rnds2 has a latency of several cycles and each waits for the one before, so a single message leaves its
// unit idle for half of the time. Chunks are independent leaves of a tree: two of them fill it.
//
// Gain: 1.86 times two calls of libcrypto, which uses the same instructions for one message at a time: 2.97 against
// 1.60 GB/s on one core of a Zen 3, chunks of 1 MiB in cache (bench/bench_kernels). Three or four add nothing.
#include "kernels/sha256_ni.h"

#include "base/check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define SLUICE_SHA_NI __attribute__((target("sha,sse4.1"))) inline __attribute__((always_inline))

namespace sluice::kernels {
namespace {

// FIPS 180-4, 4.2.2.
alignas(16) constexpr uint32_t kRoundConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// The instructions want the words as a, b, e, f and c, d, g, h, the first in the highest lane.
struct State {
  __m128i abef, cdgh;
};

SLUICE_SHA_NI State LoadState(const uint32_t words[8]) {
  const __m128i dcba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words));
  const __m128i hgfe = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  return {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xF0)};
}

SLUICE_SHA_NI void StoreState(const State& state, uint32_t words[8]) {
  const __m128i feba = _mm_shuffle_epi32(state.abef, 0x1B), dchg = _mm_shuffle_epi32(state.cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Four rounds, 4 * kStep onwards. schedule[i % 4] holds words 4i .. 4i + 3 of the message schedule (FIPS 180-4, 6.2.2).
template <int kStep>
SLUICE_SHA_NI void FourRounds(State* state, __m128i (&schedule)[4], const uint8_t* block) {
  __m128i& now = schedule[kStep % 4];
  if constexpr (kStep < 4) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 16 * kStep)), big_endian);
  }
  const __m128i sum = _mm_add_epi32(now, _mm_load_si128(reinterpret_cast<const __m128i*>(kRoundConstants + 4 * kStep)));
  state->cdgh = _mm_sha256rnds2_epu32(state->cdgh, state->abef, sum);
  if constexpr (kStep >= 3 && kStep < 15) {
    __m128i& next = schedule[(kStep + 1) % 4];
    const __m128i seven_back = _mm_alignr_epi8(now, schedule[(kStep + 3) % 4], 4);
    next = _mm_sha256msg2_epu32(_mm_add_epi32(next, seven_back), now);
  }
  state->abef = _mm_sha256rnds2_epu32(state->abef, state->cdgh, _mm_shuffle_epi32(sum, 0x0E));
  if constexpr (kStep >= 1 && kStep < 13) {
    __m128i& last = schedule[(kStep + 3) % 4];
    last = _mm_sha256msg1_epu32(last, now);
  }
}

}  // namespace

bool HasShaInstructions() {
  static const bool has = [] {
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return false;
    const bool has_shuffles = (ecx & bit_SSSE3) != 0 && (ecx & bit_SSE4_1) != 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    return has_shuffles && (ebx & 1u << 29) != 0;
  }();
  return has;
}

// All 64 rounds: step(i) for i of 0 to 15.
#define SLUICE_ALL_STEPS(step) \
  step(0);                     \
  step(1);                     \
  step(2);                     \
  step(3);                     \
  step(4);                     \
  step(5);                     \
  step(6);                     \
  step(7);                     \
  step(8);                     \
  step(9);                     \
  step(10);                    \
  step(11);                    \
  step(12);                    \
  step(13);                    \
  step(14);                    \
  step(15)

__attribute__((target("sha,sse4.1"))) void CompressPair(uint32_t state_a[8], const uint8_t* a, uint32_t state_b[8],
                                                        const uint8_t* b, uint64_t num_blocks) {
  State sa = LoadState(state_a), sb = LoadState(state_b);
  for (; num_blocks > 0; --num_blocks, a += 64, b += 64) {
    const State before_a = sa, before_b = sb;
    __m128i wa[4], wb[4];
#define SLUICE_STEP(i)       \
  FourRounds<i>(&sa, wa, a); \
  FourRounds<i>(&sb, wb, b)
    SLUICE_ALL_STEPS(SLUICE_STEP);
#undef SLUICE_STEP
    sa = {_mm_add_epi32(sa.abef, before_a.abef), _mm_add_epi32(sa.cdgh, before_a.cdgh)};
    sb = {_mm_add_epi32(sb.abef, before_b.abef), _mm_add_epi32(sb.cdgh, before_b.cdgh)};
  }
  StoreState(sa, state_a);
  StoreState(sb, state_b);
}

__attribute__((target("sha,sse4.1"))) void Compress(uint32_t state[8], const uint8_t* bytes, uint64_t num_blocks) {
  State s = LoadState(state);
  for (; num_blocks > 0; --num_blocks, bytes += 64) {
    const State before = s;
    __m128i schedule[4];
#define SLUICE_STEP(i) FourRounds<i>(&s, schedule, bytes)
    SLUICE_ALL_STEPS(SLUICE_STEP);
#undef SLUICE_STEP
    s = {_mm_add_epi32(s.abef, before.abef), _mm_add_epi32(s.cdgh, before.cdgh)};
  }
  StoreState(s, state);
}

#undef SLUICE_ALL_STEPS

}  // namespace sluice::kernels

#else

namespace sluice::kernels {

bool HasShaInstructions() { return false; }
void CompressPair(uint32_t*, const uint8_t*, uint32_t*, const uint8_t*, uint64_t) { SLUICE_CHECK(false); }
void Compress(uint32_t*, const uint8_t*, uint64_t) { SLUICE_CHECK(false); }

}  // namespace sluice::kernels

#endif
