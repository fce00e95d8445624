// Small whole numbers times the scales of their groups: what every block quantisation comes to when its bits are
// unpacked. Unaligned memory; dispatched over Highway's targets, same bits on each (products and sums are rounded one
// by one, never fused; signs and payloads of NaNs are not promised). Thread-safe. Input and output may not overlap.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// out[i] = scales[i / group] * q[i], plus offsets[i / group] where there are any.
struct ScaleBytesArgs {
  const int8_t* q = nullptr;  // num_groups * group numbers
  uint64_t num_groups = 0;
  uint64_t group = 0;              // 16 or 32
  const float* scales = nullptr;   // num_groups
  const float* offsets = nullptr;  // num_groups, or null
  float* out = nullptr;
};
void ScaleBytes(const ScaleBytesArgs& args);

// bytes[i] = table[bytes[i]], in place. Each is under 16; count is a multiple of 16.
void LookUpBytes(const int8_t* table, uint64_t count, int8_t* bytes);

namespace reference {
void ScaleBytes(const ScaleBytesArgs& args);
void LookUpBytes(const int8_t* table, uint64_t count, int8_t* bytes);
}  // namespace reference

}  // namespace sluice::kernels
