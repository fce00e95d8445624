// 8-bit floats to f32, several at a time.
//
// Problem: a table of 256 floats gives one number a load, 2,900 M/s; a stream of FP8 weights would wait for it.
//
// Idea: convert.cc's for f16. Move exponent and digits to where f32 has them, add the difference of the biases; for
// subnormals an exact subtraction puts them right.
#include "kernels/fp8.h"

#include <bit>
#include <cstring>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/fp8.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using DU = hn::Rebind<uint32_t, DF>;
using DI = hn::Rebind<int32_t, DF>;
using DU8 = hn::Rebind<uint8_t, DF>;
using VI = hn::Vec<DI>;

// kFirstNan: the least magnitude that is NaN. Where kInfinity, the one before it is infinite.
template <int kDigitBits, int kBias, int kFirstNan, bool kInfinity>
HWY_INLINE hn::Vec<DF> WidenCodes(VI codes) {
  const DI di;
  const DF df;
  constexpr int kShift = 23 - kDigitBits;
  const VI sign = hn::ShiftLeft<24>(hn::And(codes, hn::Set(di, 0x80)));
  const VI magnitude = hn::ShiftLeft<kShift>(hn::And(codes, hn::Set(di, 0x7F)));
  const VI normal = hn::Add(magnitude, hn::Set(di, (127 - kBias) << 23));
  // Digits behind a leading 1 of the least normal number's weight, taken away again.
  const VI one = hn::Set(di, (127 - kBias + 1) << 23);
  const VI subnormal = hn::BitCast(di, hn::Sub(hn::BitCast(df, hn::Add(magnitude, one)), hn::BitCast(df, one)));
  VI result = hn::IfThenElse(hn::Gt(hn::Set(di, 1 << 23), magnitude), subnormal, normal);
  if (kInfinity) {
    const VI infinity = hn::Set(di, 0x7F800000);
    result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, (kFirstNan - 2) << kShift)), infinity, result);
  }
  const VI nan = hn::Set(di, 0x7FC00000);
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, (kFirstNan - 1) << kShift)), nan, result);
  return hn::BitCast(df, hn::Or(result, sign));
}

// Elements are independent: the last few are done by doing a whole vector again that ends where the array does; an
// array shorter than a vector goes through a small one.
template <int kDigitBits, int kBias, int kFirstNan, bool kInfinity>
HWY_INLINE void Widen(const uint8_t* in, uint64_t count, float* out) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  const auto at = [](const uint8_t* from, float* to) HWY_ATTR {
    const VI codes = hn::PromoteTo(DI(), hn::LoadU(DU8(), from));
    hn::StoreU(WidenCodes<kDigitBits, kBias, kFirstNan, kInfinity>(codes), DF(), to);
  };
  uint64_t i = 0;
  for (; i + lanes <= count; i += lanes) at(in + i, out + i);
  if (i == count) return;
  if (count >= lanes) {
    at(in + count - lanes, out + count - lanes);
    return;
  }
  uint8_t few_in[kMaxVectorBytes / 4] = {};
  float few_out[kMaxVectorBytes / 4];
  std::memcpy(few_in, in, count);
  at(few_in, few_out);
  std::memcpy(out, few_out, 4 * count);
}

void E4M3ToF32(const uint8_t* in, uint64_t count, float* out) { Widen<3, 7, 0x7F, false>(in, count, out); }
void E5M2ToF32(const uint8_t* in, uint64_t count, float* out) { Widen<2, 15, 0x7D, true>(in, count, out); }

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(E4M3ToF32);
HWY_EXPORT(E5M2ToF32);

void E4M3ToF32(const uint8_t* in, uint64_t count, float* out) { HWY_DYNAMIC_DISPATCH(E4M3ToF32)(in, count, out); }
void E5M2ToF32(const uint8_t* in, uint64_t count, float* out) { HWY_DYNAMIC_DISPATCH(E5M2ToF32)(in, count, out); }

namespace reference {
namespace {

// Of a finite number: units of the last digit times a power of two, exact in f32.
float ToF32(uint8_t code, int digit_bits, int bias) {
  const int exponent = (code & 0x7F) >> digit_bits, digits = code & ((1 << digit_bits) - 1);
  const int units = exponent == 0 ? digits : digits | 1 << digit_bits;
  const int power = (exponent == 0 ? 1 : exponent) - bias - digit_bits;
  const float unit = std::bit_cast<float>(static_cast<uint32_t>(power + 127) << 23);
  const float magnitude = static_cast<float>(units) * unit;
  return code >> 7 != 0 ? -magnitude : magnitude;
}

float Signed(uint8_t code, uint32_t magnitude) { return std::bit_cast<float>(uint32_t{code} >> 7 << 31 | magnitude); }

}  // namespace

float E4M3ToF32(uint8_t code) { return (code & 0x7F) == 0x7F ? Signed(code, 0x7FC00000) : ToF32(code, 3, 7); }

float E5M2ToF32(uint8_t code) {
  if ((code & 0x7F) == 0x7C) return Signed(code, 0x7F800000);
  return (code & 0x7F) > 0x7C ? Signed(code, 0x7FC00000) : ToF32(code, 2, 15);
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
