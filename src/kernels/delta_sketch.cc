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
constexpr uint64_t kLanes = hn::MaxLanes(DF());
constexpr int32_t kMostBinade = 0x5E800000;  // 2^62

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

// The squares of the binades of a vector, none below least; 0 where either number is not finite.
HWY_INLINE hn::Vec<DF> SquaredBinades(const float* a, const float* b, hn::Vec<DI> least) {
  const DF df;
  const DI di;
  const auto exponents = hn::Set(di, 0x7F800000), most = hn::Set(di, kMostBinade);
  const auto of_a = hn::And(hn::BitCast(di, hn::LoadU(df, a)), exponents);
  const auto of_b = hn::And(hn::BitCast(di, hn::LoadU(df, b)), exponents);
  const auto larger = hn::Max(hn::Max(of_a, of_b), least);
  const auto binade = hn::BitCast(df, hn::IfThenElseZero(hn::Lt(larger, exponents), hn::Min(larger, most)));
  return hn::Mul(binade, binade);
}

void AddSquaredBinades(const float* a, const float* b, uint64_t count, float least, double* lanes) {
  const DF df;
  const auto floor = hn::Set(DI(), std::bit_cast<int32_t>(least));
  const uint64_t in_runs = count / kBinadeRun * kBinadeRun;
  HWY_ALIGN float run[16];
  for (uint64_t begin = 0; begin < in_runs; begin += kBinadeRun) {
    for (uint64_t first = 0; first < 16; first += kLanes) {
      auto sum = hn::Zero(df);
      for (uint64_t i = begin + first; i < begin + kBinadeRun; i += 16) {
        sum = hn::Add(sum, SquaredBinades(a + i, b + i, floor));
      }
      hn::Store(sum, df, run + first);
    }
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += static_cast<double>(run[lane]);
  }
  reference::AddSquaredBinades(a + in_runs, b + in_runs, count - in_runs, least, lanes);
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
  constexpr uint32_t kExponents = 0x7F800000, kMost = 0x5E800000;  // 2^62
  for (uint64_t begin = 0; begin < count; begin += kBinadeRun) {
    float run[16] = {};
    for (uint64_t i = begin; i < std::min(begin + kBinadeRun, count); ++i) {
      const uint32_t larger = std::max({std::bit_cast<uint32_t>(a[i]) & kExponents,
                                        std::bit_cast<uint32_t>(b[i]) & kExponents, std::bit_cast<uint32_t>(least)});
      const float binade = larger < kExponents ? std::bit_cast<float>(std::min(larger, kMost)) : 0.0f;
      run[i % 16] += binade * binade;
    }
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += static_cast<double>(run[lane]);
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
