// Decodes ggml's blocks of 32 numbers: x = d q or x = d q + m, with d (and m) an f16 at the front of the block. A
// format says how its bits become 32 bytes q; the rest is the same for all. Up to 32 blocks at a time, so that the
// scales too are widened as vectors and a call of a kernel costs little.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/scale_bytes.h"
#include "quant/encodings/internal_half_scale.h"
#include "quant/encodings/internal_non_linear_levels.h"

namespace sluice::quant::encodings {

// Pointers of formats' loops are __restrict: bytes may alias anything, and without the promise that these do not, the
// loops stay scalar.
using UnpackBlock = void (*)(const uint8_t* __restrict block, int8_t* __restrict q);

// kNonLinear: q stands for one of the 16 levels of internal_non_linear_levels.h.
template <uint64_t kBlockBytes, bool kHasOffset, UnpackBlock kUnpack, bool kNonLinear = false>
void DecodeBlocksOf32(const uint8_t* blocks, uint64_t num_elements, float* out) {
  constexpr uint64_t kElements = 32, kMost = 32;
  int8_t q[kMost * kElements];
  uint8_t halves[2 * kMost * 2];
  float scales[2 * kMost];
  for (uint64_t left = num_elements / kElements; left > 0;) {
    const uint64_t count = std::min(left, kMost);
    for (uint64_t i = 0; i < count; ++i, blocks += kBlockBytes) {
      std::memcpy(halves + 2 * i, blocks, 2);
      if constexpr (kHasOffset) std::memcpy(halves + 2 * (count + i), blocks + 2, 2);
      kUnpack(blocks, q + i * kElements);
    }
    if constexpr (kNonLinear) kernels::LookUpBytes(kNonLinearLevels, count * kElements, q);
    const uint64_t num_scales = kHasOffset ? 2 * count : count;
    kernels::F16ToF32(halves, num_scales, scales);
    kernels::ScaleBytes({.q = q,
                         .num_groups = count,
                         .group = kElements,
                         .scales = scales,
                         .offsets = kHasOffset ? scales + count : nullptr,
                         .out = out});
    if (!std::all_of(scales, scales + num_scales, [](float scale) { return std::isfinite(scale); })) {
      CanonicaliseNans(out, count * kElements);
    }
    out += count * kElements;
    left -= count;
  }
}

// 16 bytes: low nibbles are the first 16 numbers, high nibbles the last 16.
inline void UnpackNibbles(const uint8_t* __restrict nibbles, int8_t* __restrict q) {
  for (int i = 0; i < 16; ++i) q[i] = static_cast<int8_t>(nibbles[i] & 15);
  for (int i = 0; i < 16; ++i) q[16 + i] = static_cast<int8_t>(nibbles[i] >> 4);
}

// 16 bytes of nibbles as above, and four bytes whose bit i is the fifth bit of number i. Eight numbers at a time, so
// that no load waits for stores that are shorter than it. kBias: 16 to subtract 16, or 0.
template <int kBias>
inline void UnpackFiveBits(const uint8_t* fifth_bits, const uint8_t* nibbles, int8_t* q) {
  static_assert(kBias == 0 || kBias == 16);
  constexpr uint64_t kOnes = 0x0101010101010101;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    // A copy of the byte in each of eight, in copy j only its bit j; adding 0x7F carries whatever it is to bit 7.
    const uint64_t spread = fifth_bits[i] * kOnes & 0x8040201008040201;
    const uint64_t set = (spread + 0x7F * kOnes) >> 7 & kOnes;
    uint64_t eight;
    std::memcpy(&eight, nibbles + i % 2 * 8, 8);
    eight = (i < 2 ? eight : eight >> 4) & 0x0F * kOnes;
    // q - 16 is the nibble alone where the fifth bit is set, else negative: all bits above the nibble are.
    eight |= kBias == 0 ? set * 0x10 : (set ^ kOnes) * 0xF0;
    std::memcpy(q + 8 * i, &eight, 8);
  }
}

}  // namespace sluice::quant::encodings
