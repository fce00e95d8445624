// Differences of probabilities of a panel of logits, 16 tokens at a time.
#include "kernels/logit_distance.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/logit_distance.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/exp_tanh-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As wide as there are: lanes never meet, so the width leaves no trace in the bits.
using DF = hn::CappedTag<float, kTileTokens>;
using DD = hn::CappedTag<double, kTileTokens / 2>;
using DFToD = hn::Rebind<float, DD>;  // as many f32 as there are f64
constexpr uint64_t kLanes = hn::MaxLanes(DF());
constexpr uint64_t kLanesD = hn::MaxLanes(DD());
constexpr uint64_t kRowsTogether = 8;

// e^{x - max} of some rows, to e [rows][16].
HWY_INLINE void Exponentials(const float* logits, uint64_t rows, const float* max, float* e) {
  const DF df;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
    const auto m = hn::LoadU(df, max + lane);
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      hn::Store(exp_tanh::Exp(df, hn::Sub(hn::LoadU(df, logits + i), m)), df, e + i);
    }
  }
}

HWY_INLINE void AddDifferences(const float* e_a, const float* e_b, const double* scale_a, const double* scale_b,
                               uint64_t rows, double* sums) {
  const DD dd;
  const DFToD df;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanesD) {
    const auto of_a = hn::LoadU(dd, scale_a + lane), of_b = hn::LoadU(dd, scale_b + lane);
    auto sum = hn::LoadU(dd, sums + lane);
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      const auto p = hn::Mul(hn::PromoteTo(dd, hn::Load(df, e_a + i)), of_a);
      const auto q = hn::Mul(hn::PromoteTo(dd, hn::Load(df, e_b + i)), of_b);
      sum = hn::Add(sum, hn::Abs(hn::Sub(p, q)));
    }
    hn::StoreU(sum, dd, sums + lane);
  }
}

// Ids that only one model has.
HWY_INLINE void AddProbabilities(const float* logits, uint64_t rows, const float* max, const double* scale,
                                 double* sums) {
  const DD dd;
  const DFToD df;
  HWY_ALIGN float e[kRowsTogether * kTileTokens];
  for (uint64_t row = 0; row < rows; row += kRowsTogether) {
    const uint64_t n = std::min(kRowsTogether, rows - row);
    Exponentials(logits + row * kTileTokens, n, max, e);
    for (uint64_t lane = 0; lane < kTileTokens; lane += kLanesD) {
      const auto factor = hn::LoadU(dd, scale + lane);
      auto sum = hn::LoadU(dd, sums + lane);
      for (uint64_t i = lane; i < n * kTileTokens; i += kTileTokens) {
        sum = hn::Add(sum, hn::Mul(hn::PromoteTo(dd, hn::Load(df, e + i)), factor));
      }
      hn::StoreU(sum, dd, sums + lane);
    }
  }
}

void SumLogitDistances(const LogitPairPanel& panel, const LogitSummary& of_a, const LogitSummary& of_b,
                       const double* scale_a, const double* scale_b, double* sums) {
  HWY_ALIGN float e_a[kRowsTogether * kTileTokens];
  HWY_ALIGN float e_b[kRowsTogether * kTileTokens];
  for (uint64_t row = 0; row < panel.shared_rows; row += kRowsTogether) {
    const uint64_t n = std::min(kRowsTogether, panel.shared_rows - row), at = row * kTileTokens;
    Exponentials(panel.a + at, n, of_a.max, e_a);
    Exponentials(panel.b + at, n, of_b.max, e_b);
    AddDifferences(e_a, e_b, scale_a, scale_b, n, sums);
  }
  const uint64_t own = panel.shared_rows * kTileTokens;
  AddProbabilities(panel.a + own, panel.a_rows - panel.shared_rows, of_a.max, scale_a, sums);
  AddProbabilities(panel.b + own, panel.b_rows - panel.shared_rows, of_b.max, scale_b, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(SumLogitDistances);

void SumLogitDistances(const LogitPairPanel& panel, const LogitSummary& of_a, const LogitSummary& of_b,
                       double (&sums)[kTileTokens]) {
  SLUICE_CHECK(panel.shared_rows <= std::min(panel.a_rows, panel.b_rows));
  SLUICE_CHECK(std::max(panel.a_rows, panel.b_rows) <= kLogitPanelRows);
  double scale_a[kTileTokens], scale_b[kTileTokens];
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    scale_a[lane] = 1 / of_a.sum_exp[lane];
    scale_b[lane] = 1 / of_b.sum_exp[lane];
  }
  std::fill_n(sums, kTileTokens, 0.0);
  HWY_DYNAMIC_DISPATCH(SumLogitDistances)(panel, of_a, of_b, scale_a, scale_b, sums);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
