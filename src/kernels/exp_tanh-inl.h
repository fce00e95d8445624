// e^x and tanh x of vectors of f32; exp_tanh.h has the formulas. Built once per target, inside the guards of the
// kernel that includes it (after <hwy/highway.h>).
#include <cstdint>

#include "kernels/exp_tanh.h"

#if defined(SLUICE_KERNELS_EXP_TANH_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_EXP_TANH_INL
#undef SLUICE_KERNELS_EXP_TANH_INL
#else
#define SLUICE_KERNELS_EXP_TANH_INL
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {
namespace exp_tanh {

namespace hn = hwy::HWY_NAMESPACE;
using namespace ::sluice::kernels::exp_tanh;  // NOLINT: the constants

// 2^n as f32, n in [-126, 127].
template <class DF, class VI>
HWY_INLINE hn::Vec<DF> PowerOf2(DF df, VI n) {
  const hn::RebindToSigned<DF> di;
  return hn::BitCast(df, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
}

template <class DF, class V = hn::Vec<DF>>
HWY_INLINE V Exp(DF df, V x) {
  const hn::RebindToSigned<DF> di;
  const V bounded = hn::Min(hn::Max(x, hn::Set(df, kExpLowest)), hn::Set(df, kExpHighest));
  const V n = hn::Round(hn::Mul(bounded, hn::Set(df, kLog2E)));
  const V r = hn::NegMulAdd(n, hn::Set(df, kLn2Low), hn::NegMulAdd(n, hn::Set(df, kLn2High), bounded));
  V p = hn::MulAdd(r, hn::Set(df, kP[4]), hn::Set(df, kP[3]));
  p = hn::MulAdd(r, p, hn::Set(df, kP[2]));
  p = hn::MulAdd(r, p, hn::Set(df, kP[1]));
  p = hn::MulAdd(r, p, hn::Set(df, kP[0]));
  const V e = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(df, 1.0f));
  // In two factors: 2^n alone may be too large or too small for an f32 whose product is not.
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  const V scaled = hn::Mul(hn::Mul(e, PowerOf2(df, half)), PowerOf2(df, hn::Sub(exponent, half)));
  return hn::IfThenElse(hn::IsNaN(x), x, scaled);
}

template <class DF, class V = hn::Vec<DF>>
HWY_INLINE V Tanh(DF df, V x) {
  const V magnitude = hn::Abs(x), square = hn::Mul(x, x), one = hn::Set(df, 1.0f);
  V q = hn::MulAdd(square, hn::Set(df, kQ[4]), hn::Set(df, kQ[3]));
  q = hn::MulAdd(square, q, hn::Set(df, kQ[2]));
  q = hn::MulAdd(square, q, hn::Set(df, kQ[1]));
  q = hn::MulAdd(square, q, hn::Set(df, kQ[0]));
  const V small = hn::MulAdd(hn::Mul(square, magnitude), q, magnitude);
  const V e = Exp(df, hn::Add(magnitude, magnitude));
  const V large = hn::Sub(one, hn::Div(hn::Set(df, 2.0f), hn::Add(e, one)));
  return hn::CopySign(hn::IfThenElse(hn::Lt(magnitude, hn::Set(df, kTanhSmall)), small, large), x);
}

}  // namespace exp_tanh
}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#endif
