// What all kernels under Highway's dispatch agree on. Include before <hwy/foreach_target.h>.
#pragma once

// Kernels keep arrays of vectors, which scalable vectors cannot be in.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

namespace sluice::kernels {

// Vectors of at most 256 bits, on AVX-512 too (where they still gain by its instructions and registers): the widest
// whose bits could be tested where this was written.
constexpr int kMaxVectorBytes = 32;

}  // namespace sluice::kernels
