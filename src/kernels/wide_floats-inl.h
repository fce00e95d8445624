// Vectors of f32 as f64, and back with the canonical NaN for every NaN. Built once per target, inside the guards of the
// kernel that includes it (after <hwy/highway.h>).
#include <cstdint>

#include "kernels/simd.h"

#if defined(SLUICE_KERNELS_WIDE_FLOATS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_WIDE_FLOATS_INL
#undef SLUICE_KERNELS_WIDE_FLOATS_INL
#else
#define SLUICE_KERNELS_WIDE_FLOATS_INL
#endif

// Highway's emulation rounds what is too large for f32 to the largest f32, and no processor does: there is no Narrow
// where this is false, and a kernel has its readable form.
#ifndef SLUICE_KERNELS_HAS_WIDE_FLOATS
#define SLUICE_KERNELS_HAS_WIDE_FLOATS (HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)
#endif

#if SLUICE_KERNELS_HAS_WIDE_FLOATS
HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {
namespace wide_floats {

namespace hn = hwy::HWY_NAMESPACE;

using DD = hn::CappedTag<double, kMaxVectorBytes / 8>;
using DF = hn::Rebind<float, DD>;
using VD = hn::Vec<DD>;

constexpr uint64_t kStep = hn::MaxLanes(DD());

HWY_INLINE VD WideAt(const float* x) { return hn::PromoteTo(DD(), hn::LoadU(DF(), x)); }

HWY_INLINE hn::Vec<DF> Narrow(VD value) {
  const VD canonical = hn::BitCast(DD(), hn::Set(hn::RebindToUnsigned<DD>(), uint64_t{0x7FF8} << 48));
  return hn::DemoteTo(DF(), hn::IfThenElse(hn::IsNaN(value), canonical, value));
}

}  // namespace wide_floats
}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();
#endif

#endif
