// What ggml's blocks share: scales stored as f16, and one NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/convert.h"

namespace sluice::quant::encodings {

// The little-endian f16 at `bytes`.
inline float ReadHalf(const uint8_t* bytes) {
  return kernels::reference::F16ToF32(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
}

// An infinite or NaN scale makes NaNs whose sign and payload depend on the machine (inf * 0) or on the order of
// operands (NaN + NaN): the one quiet NaN instead, so that decoded bytes are the same everywhere. Not needed for finite
// scales, which cannot overflow f32.
inline void CanonicaliseNans(float* values, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    if (std::isnan(values[i])) values[i] = std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace sluice::quant::encodings
