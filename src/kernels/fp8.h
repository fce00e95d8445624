// OCP's 8-bit floats to f32, as convert.h does it for those of 16 bits: exact, by integers; but a NaN becomes the quiet
// NaN of its sign. E4M3 has no infinity, and one magnitude that is NaN: 0x7F. Unaligned, any count; dispatched over
// Highway's targets, same bits on each. Thread-safe. Input and output may not overlap.
#pragma once

#include <cstdint>

namespace sluice::kernels {

void E4M3ToF32(const uint8_t* in, uint64_t count, float* out);
void E5M2ToF32(const uint8_t* in, uint64_t count, float* out);

namespace reference {
float E4M3ToF32(uint8_t code);
float E5M2ToF32(uint8_t code);
}  // namespace reference

}  // namespace sluice::kernels
