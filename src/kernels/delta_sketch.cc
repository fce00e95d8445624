// Sketching the difference of two matrices.
//
// Problem: every element that changed is looked at, beside a comparison that takes half a nanosecond for it.
//
// Idea: a fold is one subtraction, one sign flip and one addition, and columns that lie side by side go to sums that
// lie side by side. Shifts are multiples of the widest vector, so that a load never takes what two stores have just
// written.
#include "kernels/delta_sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/delta_sketch.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

void FoldDifference(const FoldArgs& args, float* folded) { reference::FoldDifference(args, folded); }

void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes) {
  reference::AddSquaredBinades(a, b, count, least, lanes);
}

#else

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using DD = hn::Repartition<double, DF>;
using DH = hn::Rebind<float, DD>;
using DHI = hn::RebindToSigned<DH>;
constexpr uint64_t kLanes = hn::MaxLanes(DF()), kLanes64 = hn::MaxLanes(DD());

void FoldDifference(const FoldArgs& args, float* folded) {
  const DF df;
  const DU du;
  for (uint64_t done = 0; done < args.count;) {
    const uint64_t column = args.column + done, group = column / args.width, place = column % args.width;
    const uint64_t n = std::min(args.width - place, args.count - done);
    const float* a = args.a + done;
    const float* b = args.b + done;
    const uint32_t* signs = args.signs + column;
    float* sums = folded + FoldShift(group, args.width) + place;
    uint64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const auto difference = hn::Sub(hn::LoadU(df, b + i), hn::LoadU(df, a + i));
      const auto finite = hn::IfThenElseZero(hn::IsFinite(difference), difference);
      const auto flipped = hn::Xor(finite, hn::BitCast(df, hn::LoadU(du, signs + i)));
      hn::StoreU(hn::Add(hn::LoadU(df, sums + i), flipped), df, sums + i);
    }
    if (i < n) {
      FoldArgs rest = args;
      rest.a = a + i;
      rest.b = b + i;
      rest.count = n - i;
      rest.column = column + i;
      reference::FoldDifference(rest, folded);
    }
    done += n;
  }
}

// The binades of a vector as f32, none below least; 0 where either number is not finite.
HWY_INLINE hn::Vec<DH> Binades(const float* a, const float* b, hn::Vec<DHI> least) {
  const DH dh;
  const DHI di;
  const auto exponents = hn::Set(di, 0x7F800000);
  const auto of_a = hn::And(hn::BitCast(di, hn::LoadU(dh, a)), exponents);
  const auto of_b = hn::And(hn::BitCast(di, hn::LoadU(dh, b)), exponents);
  const auto larger = hn::Max(hn::Max(of_a, of_b), least);
  return hn::BitCast(dh, hn::IfThenElseZero(hn::Lt(larger, exponents), larger));
}

void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes) {
  const DD dd;
  const auto floor = hn::Set(DHI(), std::bit_cast<int32_t>(least));
  const uint64_t in_vectors = count / 16 * 16;
  for (uint64_t first = 0; first < 16; first += 2 * kLanes64) {
    auto low = hn::LoadU(dd, lanes + first), high = hn::LoadU(dd, lanes + first + kLanes64);
    for (uint64_t i = first; i < in_vectors; i += 16) {
      const auto at_low = hn::PromoteTo(dd, Binades(a + i, b + i, floor));
      const auto at_high = hn::PromoteTo(dd, Binades(a + i + kLanes64, b + i + kLanes64, floor));
      low = hn::Add(low, hn::Mul(at_low, at_low));
      high = hn::Add(high, hn::Mul(at_high, at_high));
    }
    hn::StoreU(low, dd, lanes + first);
    hn::StoreU(high, dd, lanes + first + kLanes64);
  }
  reference::AddSquaredBinades(a + in_vectors, b + in_vectors, count - in_vectors, least, lanes);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(FoldDifference);
HWY_EXPORT(AddSquaredBinades);

void FoldDifference(const FoldArgs& args, float* folded) { HWY_DYNAMIC_DISPATCH(FoldDifference)(args, folded); }

void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes) {
  HWY_DYNAMIC_DISPATCH(AddSquaredBinades)(a, b, count, least, lanes);
}

namespace reference {

void FoldDifference(const FoldArgs& args, float* folded) {
  for (uint64_t i = 0; i < args.count; ++i) {
    const uint64_t column = args.column + i;
    const float difference = args.b[i] - args.a[i];
    const float finite = std::isfinite(difference) ? difference : 0.0f;
    const float flipped = std::bit_cast<float>(std::bit_cast<uint32_t>(finite) ^ args.signs[column]);
    folded[FoldShift(column / args.width, args.width) + column % args.width] += flipped;
  }
}

void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes) {
  constexpr uint32_t kExponents = 0x7F800000;
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t larger = std::max({std::bit_cast<uint32_t>(a[i]) & kExponents,
                                      std::bit_cast<uint32_t>(b[i]) & kExponents, std::bit_cast<uint32_t>(least)});
    const double binade = larger < kExponents ? static_cast<double>(std::bit_cast<float>(larger)) : 0.0;
    lanes[i % 16] += binade * binade;
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
