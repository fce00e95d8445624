// Plain floats to f32 and back. To f32: exact, by bits, so a NaN keeps its sign, its payload and whether it is quiet.
// From f32: round to nearest even, overflow to infinity; a NaN keeps its sign and what fits of its payload, and is
// quiet. Unaligned bytes, little-endian; any count. Dispatched over Highway's targets, same bits on each; `reference`
// is the readable form. Thread-safe. Input and output may not overlap.
#pragma once

#include <cstdint>

namespace sluice::kernels {

void Bf16ToF32(const uint8_t* in, uint64_t count, float* out);
void F16ToF32(const uint8_t* in, uint64_t count, float* out);
void F32ToBf16(const float* in, uint64_t count, uint8_t* out);
void F32ToF16(const float* in, uint64_t count, uint8_t* out);

namespace reference {
float Bf16ToF32(uint16_t bits);
float F16ToF32(uint16_t bits);
uint16_t F32ToBf16(float value);
uint16_t F32ToF16(float value);
}  // namespace reference

}  // namespace sluice::kernels
