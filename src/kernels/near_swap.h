// nearswap's arithmetic (merge/methods/nearswap.cc), in f32, one operation at a time (no FMA):
//   d = max(|base - x|, 1e-6);  w = (1 / d) t, at least 0 and at most 1;  out = w x + (1 - w) base
// Dispatched, same results on each target: a NaN is 0x7FC00000. Thread-safe; arrays may stand anywhere, and out may be
// one of the others.
#pragma once

#include <cstdint>

namespace sluice::kernels {

void SwapWhereNear(const float* base, const float* x, float t, uint64_t count, float* out);

namespace reference {
void SwapWhereNear(const float* base, const float* x, float t, uint64_t count, float* out);
}  // namespace reference

}  // namespace sluice::kernels
