// What ggml's blocks of 256 numbers ("K-quants" and their kin) share: one f16 scale, or two, for small whole scales of
// groups of 16 or 32 numbers. A format makes bytes q and the groups' scales (and offsets) in f32; x = scale q + offset.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/scale_bytes.h"
#include "quant/encodings/internal_half_scale.h"

namespace sluice::quant::encodings {

constexpr uint64_t kSuperBlock = 256;

// One block, unpacked.
struct SuperBlock {
  int8_t q[kSuperBlock];
  float scales[16], offsets[16];  // of as many groups as there are
  bool finite;                    // the stored scales are
};

// kGroup: 16 or 32. Unpack: void(const uint8_t* block, SuperBlock*).
template <uint64_t kBlockBytes, uint64_t kGroup, bool kHasOffsets, auto kUnpack>
void DecodeBlocksOf256(const uint8_t* blocks, uint64_t num_elements, float* out) {
  SuperBlock block;
  for (uint64_t left = num_elements / kSuperBlock; left > 0; --left, blocks += kBlockBytes, out += kSuperBlock) {
    kUnpack(blocks, &block);
    kernels::ScaleBytes({.q = block.q,
                         .num_groups = kSuperBlock / kGroup,
                         .group = kGroup,
                         .scales = block.scales,
                         .offsets = kHasOffsets ? block.offsets : nullptr,
                         .out = out});
    if (!block.finite) CanonicaliseNans(out, kSuperBlock);
  }
}

// Some bits of a byte.
struct Bits {
  int shift, mask;
};

// out[i] = kBits of in[i]. Pointers are __restrict and shifts constants: the loops are vectors of 16 bytes.
template <int kCount, Bits kBits>
inline void TakeBits(const uint8_t* __restrict in, int8_t* __restrict out) {
  for (int i = 0; i < kCount; ++i) out[i] = static_cast<int8_t>(in[i] >> kBits.shift & kBits.mask);
}

// out[i] = kLow of low[i] with kHigh of high[i] above, from bit kAt on, minus kBias.
template <int kCount, Bits kLow, Bits kHigh, int kAt, int kBias = 0>
inline void JoinBits(const uint8_t* __restrict low, const uint8_t* __restrict high, int8_t* __restrict out) {
  for (int i = 0; i < kCount; ++i) {
    const int low_bits = low[i] >> kLow.shift & kLow.mask, high_bits = high[i] >> kHigh.shift & kHigh.mask;
    out[i] = static_cast<int8_t>((low_bits | high_bits << kAt) - kBias);
  }
}

// Q4_K's and Q5_K's twelve bytes: eight scales and eight minima of 6 bits. The first four of each lie in the low six
// bits of bytes 0-3 and 4-7; of the last four, bytes 8-11 have the low four bits (scales in the low nibble) and the top
// two of bytes 0-7 the high two. Minima are subtracted.
inline void SixBitScales(const uint8_t* packed, float d, float dmin, SuperBlock* out) {
  for (int i = 0; i < 4; ++i) {
    const int scale = packed[i] & 63, minimum = packed[i + 4] & 63;
    const int later_scale = (packed[i + 8] & 15) | packed[i] >> 6 << 4;
    const int later_minimum = packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4;
    out->scales[i] = d * static_cast<float>(scale);
    out->scales[i + 4] = d * static_cast<float>(later_scale);
    out->offsets[i] = -(dmin * static_cast<float>(minimum));
    out->offsets[i + 4] = -(dmin * static_cast<float>(later_minimum));
  }
}

}  // namespace sluice::quant::encodings
