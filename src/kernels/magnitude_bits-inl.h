// Bits of |x - base|, which order as the number does. Built once per target, inside the guards of the kernel that
// includes it (after <hwy/highway.h>).
#include <cstdint>

#include "kernels/simd.h"

#if defined(SLUICE_KERNELS_MAGNITUDE_BITS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_MAGNITUDE_BITS_INL
#undef SLUICE_KERNELS_MAGNITUDE_BITS_INL
#else
#define SLUICE_KERNELS_MAGNITUDE_BITS_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {
namespace magnitude_bits {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using DI = hn::Rebind<int32_t, DF>;
using VI = hn::Vec<DI>;

// Arithmetic makes only quiet NaNs, whose patterns begin at the canonical one, so a minimum makes them all that.
HWY_INLINE VI BitsAt(const float* x, const float* base) {
  const DF df;
  const DI di;
  const VI bits = hn::BitCast(di, hn::Abs(hn::Sub(hn::LoadU(df, x), hn::LoadU(df, base))));
  return hn::Min(bits, hn::Set(di, 0x7FC00000));
}

}  // namespace magnitude_bits
}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#endif
