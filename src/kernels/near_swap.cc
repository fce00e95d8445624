// nearswap, a vector at a time. A comparison with NaN is false, so that one stays where the formula has it.
#include "kernels/near_swap.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/near_swap.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using VF = hn::Vec<DF>;

void SwapWhereNear(const float* base, const float* x, float t, uint64_t count, float* out) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  const VF least = hn::Set(df, 1e-6f), zero = hn::Zero(df), one = hn::Set(df, 1.0f), of_t = hn::Set(df, t);
  const VF canonical = hn::BitCast(df, hn::Set(hn::Rebind<uint32_t, DF>(), 0x7FC00000));
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    const VF of_base = hn::LoadU(df, base + at), of_x = hn::LoadU(df, x + at);
    const VF difference = hn::Abs(hn::Sub(of_base, of_x));
    const VF by = hn::IfThenElse(hn::Lt(difference, least), least, difference);
    const VF share = hn::Mul(hn::Div(one, by), of_t);
    const VF weight = hn::IfThenElse(hn::Lt(share, zero), zero, hn::IfThenElse(hn::Gt(share, one), one, share));
    const VF sum = hn::Add(hn::Mul(weight, of_x), hn::Mul(hn::Sub(one, weight), of_base));
    hn::StoreU(hn::IfThenElse(hn::IsNaN(sum), canonical, sum), df, out + at);
  }
  reference::SwapWhereNear(base + at, x + at, t, count - at, out + at);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(SwapWhereNear);

void SwapWhereNear(const float* base, const float* x, float t, uint64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(SwapWhereNear)(base, x, t, count, out);
}

namespace reference {

void SwapWhereNear(const float* base, const float* x, float t, uint64_t count, float* out) {
  for (uint64_t i = 0; i < count; ++i) {
    const float difference = std::abs(base[i] - x[i]);
    const float weight = std::clamp(1 / std::max(difference, 1e-6f) * t, 0.0f, 1.0f);  // a NaN stays one
    const float sum = weight * x[i] + (1 - weight) * base[i];
    out[i] = std::isnan(sum) ? std::bit_cast<float>(0x7FC00000u) : sum;
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
