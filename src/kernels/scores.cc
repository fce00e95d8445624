// Scores, a vector at a time.
#include "kernels/scores.h"

#include <cmath>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/scores.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using VF = hn::Vec<DF>;

HWY_INLINE VF ScoreOf(VF x, VF base, VF factor) { return hn::Mul(hn::Abs(hn::Sub(x, base)), factor); }

void Scores(const float* x, const float* base, float factor, uint64_t count, float* scores) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  const VF by = hn::Set(df, factor);
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    hn::StoreU(ScoreOf(hn::LoadU(df, x + at), hn::LoadU(df, base + at), by), df, scores + at);
  }
  reference::Scores(x + at, base + at, factor, count - at, scores + at);
}

void Scale(float factor, uint64_t count, float* numbers) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  const VF by = hn::Set(df, factor);
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) hn::StoreU(hn::Mul(hn::LoadU(df, numbers + at), by), df, numbers + at);
  reference::Scale(factor, count - at, numbers + at);
}

void TakeScored(const float* x, const float* base, float factor, float threshold, uint64_t count, float* out) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  const VF by = hn::Set(df, factor), least = hn::Set(df, threshold);
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    const VF of_x = hn::LoadU(df, x + at), of_base = hn::LoadU(df, base + at);
    hn::StoreU(hn::IfThenElse(hn::Ge(ScoreOf(of_x, of_base, by), least), of_x, of_base), df, out + at);
  }
  reference::TakeScored(x + at, base + at, factor, threshold, count - at, out + at);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(Scores);
HWY_EXPORT(Scale);
HWY_EXPORT(TakeScored);

void Scores(const float* x, const float* base, float factor, uint64_t count, float* scores) {
  HWY_DYNAMIC_DISPATCH(Scores)(x, base, factor, count, scores);
}

void Scale(float factor, uint64_t count, float* numbers) { HWY_DYNAMIC_DISPATCH(Scale)(factor, count, numbers); }

void TakeScored(const float* x, const float* base, float factor, float threshold, uint64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(TakeScored)(x, base, factor, threshold, count, out);
}

namespace reference {

void Scores(const float* x, const float* base, float factor, uint64_t count, float* scores) {
  for (uint64_t i = 0; i < count; ++i) scores[i] = std::abs(x[i] - base[i]) * factor;
}

void Scale(float factor, uint64_t count, float* numbers) {
  for (uint64_t i = 0; i < count; ++i) numbers[i] *= factor;
}

void TakeScored(const float* x, const float* base, float factor, float threshold, uint64_t count, float* out) {
  for (uint64_t i = 0; i < count; ++i) out[i] = std::abs(x[i] - base[i]) * factor >= threshold ? x[i] : base[i];
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
