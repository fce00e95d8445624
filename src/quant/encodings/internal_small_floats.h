// Floats of 4 and 8 bits.
//
// To f32: exact, subnormals too; NaNs become the quiet NaN of their sign. E4M3 and E5M2 are in kernels/fp8.h, the rare
// others go through tables made from each format's definition. E4M3, E5M2, E2M1: OCP's OFP8 (8-bit) and Microscaling
// (MX) specifications; E4M3 has no infinity, one magnitude of NaN and a largest number of 448. E8M0: MX's powers of two
// from 2^-127, 0xFF is NaN. FNUZ: as AMD and Graphcore have them, no infinity, no negative zero (its code is the NaN),
// an exponent bias one larger.
//
// From f32: round to nearest even. Past the largest number (past the middle between it and what would come next) E5M2
// gives infinity, E4M3, which has none, NaN: OFP8's "non-saturating" conversion, which PyTorch and ml_dtypes do too.
// NaNs keep their sign; their codes are 0x7F (E4M3) and 0x7E (E5M2).
#pragma once

#include <cstdint>

namespace sluice::quant::encodings {

void DecodeE8M0(const uint8_t* in, uint64_t count, float* out);
void DecodeE4M3Fnuz(const uint8_t* in, uint64_t count, float* out);
void DecodeE5M2Fnuz(const uint8_t* in, uint64_t count, float* out);
// Two in a byte, the low nibble first, as torch's float4_e2m1fn_x2 has them.
void DecodeE2M1Pairs(const uint8_t* in, uint64_t count, float* out);

void EncodeE4M3(const float* in, uint64_t count, uint8_t* out);
void EncodeE5M2(const float* in, uint64_t count, uint8_t* out);

}  // namespace sluice::quant::encodings
