// Bytes to scaled floats.
//
// Problem: decoding blocks is to cost no more than writing the floats, on a build whose plain loops know no more than
// SSE2: widening bytes to floats takes them five instructions for four numbers.
//
// Idea: the bits of a block are unpacked to bytes by plain loops, 16 at a time, whatever the format; the widening,
// four times as much work, is here, for all formats at once.
#include "kernels/scale_bytes.h"

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/scale_bytes.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using DI = hn::Rebind<int32_t, DF>;
using D8 = hn::Rebind<int8_t, DF>;
constexpr uint64_t kLanes = hn::MaxLanes(DF());

template <uint64_t kGroup, bool kOffsets>
HWY_INLINE void ScaleGroups(const ScaleBytesArgs& args) {
  const DF df;
  const int8_t* q = args.q;
  float* out = args.out;
  for (uint64_t group = 0; group < args.num_groups; ++group, q += kGroup, out += kGroup) {
    const auto scale = hn::Set(df, args.scales[group]);
    const auto offset = kOffsets ? hn::Set(df, args.offsets[group]) : hn::Zero(df);
#pragma GCC unroll 8
    for (uint64_t i = 0; i < kGroup; i += kLanes) {
      const auto product = hn::Mul(scale, hn::ConvertTo(df, hn::PromoteTo(DI(), hn::LoadU(D8(), q + i))));
      hn::StoreU(kOffsets ? hn::Add(product, offset) : product, df, out + i);
    }
  }
}

void ScaleBytes(const ScaleBytesArgs& args) {
  if (args.group == 16) {
    args.offsets == nullptr ? ScaleGroups<16, false>(args) : ScaleGroups<16, true>(args);
  } else {
    args.offsets == nullptr ? ScaleGroups<32, false>(args) : ScaleGroups<32, true>(args);
  }
}

void LookUpBytes(const int8_t* table, uint64_t count, int8_t* bytes) {
#if HWY_TARGET == HWY_SCALAR
  reference::LookUpBytes(table, count, bytes);  // one lane has no table
#else
  const hn::FixedTag<int8_t, 16> d;
  const auto numbers = hn::LoadU(d, table);
  for (uint64_t i = 0; i < count; i += 16) {
    hn::StoreU(hn::TableLookupBytes(numbers, hn::LoadU(d, bytes + i)), d, bytes + i);
  }
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(ScaleBytes);
HWY_EXPORT(LookUpBytes);

void ScaleBytes(const ScaleBytesArgs& args) {
  SLUICE_CHECK(args.group == 16 || args.group == 32);
  HWY_DYNAMIC_DISPATCH(ScaleBytes)(args);
}

void LookUpBytes(const int8_t* table, uint64_t count, int8_t* bytes) {
  SLUICE_CHECK(count % 16 == 0);
  HWY_DYNAMIC_DISPATCH(LookUpBytes)(table, count, bytes);
}

namespace reference {

void ScaleBytes(const ScaleBytesArgs& args) {
  for (uint64_t i = 0; i < args.num_groups * args.group; ++i) {
    const float product = args.scales[i / args.group] * static_cast<float>(args.q[i]);
    args.out[i] = args.offsets == nullptr ? product : product + args.offsets[i / args.group];
  }
}

void LookUpBytes(const int8_t* table, uint64_t count, int8_t* bytes) {
  for (uint64_t i = 0; i < count; ++i) bytes[i] = table[static_cast<uint8_t>(bytes[i])];
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
