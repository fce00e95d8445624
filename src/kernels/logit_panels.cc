// Maxima and sums of exponentials of a panel of logits, 16 tokens at a time.
#include "kernels/logit_panels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/logit_panels.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/exp_tanh-inl.h"

#ifndef SLUICE_KERNELS_LOGIT_PANELS_ONCE
#define SLUICE_KERNELS_LOGIT_PANELS_ONCE
namespace sluice::kernels {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As wide as there are: lanes never meet, so the width leaves no trace in the bits.
using DF = hn::CappedTag<float, kTileTokens>;
using DU = hn::Rebind<uint32_t, DF>;
using VF = hn::Vec<DF>;
using DD = hn::CappedTag<double, kTileTokens / 2>;
using DFToD = hn::Rebind<float, DD>;  // as many f32 as there are f64
constexpr uint64_t kLanes = hn::MaxLanes(DF());
constexpr uint64_t kLanesD = hn::MaxLanes(DD());
constexpr uint64_t kRowsTogether = 8;

HWY_INLINE void MaxOfPanel(const float* logits, uint32_t first_id, uint64_t rows, LogitSummary* summary) {
  const DF df;
  const DU du;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
    VF max = hn::Set(df, kMinusInfinity);
    auto argmax = hn::Set(du, first_id);
    for (uint64_t row = 0; row < rows; ++row) {
      const VF x = hn::LoadU(df, logits + row * kTileTokens + lane);
      const auto larger = hn::Gt(x, max);  // never for a NaN
      max = hn::IfThenElse(larger, x, max);
      argmax = hn::IfThenElse(hn::RebindMask(du, larger), hn::Set(du, first_id + static_cast<uint32_t>(row)), argmax);
    }
    hn::StoreU(max, df, summary->max + lane);
    hn::StoreU(argmax, du, summary->argmax + lane);
  }
}

// e^{x - max} of some rows, to e [rows][16].
HWY_INLINE void Exponentials(const float* logits, uint64_t rows, const float* max, float* e) {
  const DF df;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
    const VF m = hn::LoadU(df, max + lane);
    const VF from = hn::IfThenZeroElse(hn::Eq(m, hn::Set(df, kMinusInfinity)), m);
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      hn::Store(exp_tanh::Exp(df, hn::Sub(hn::LoadU(df, logits + i), from)), df, e + i);
    }
  }
}

HWY_INLINE void AddExponentials(const float* e, uint64_t rows, double* sums) {
  const DD dd;
  const DFToD df;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanesD) {
    auto sum = hn::LoadU(dd, sums + lane);
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      sum = hn::Add(sum, hn::PromoteTo(dd, hn::Load(df, e + i)));
    }
    hn::StoreU(sum, dd, sums + lane);
  }
}

// Adds e (a - b); nothing where e is 0, whatever a - b is.
HWY_INLINE void AddWeighted(const float* e, const float* a, const float* b, uint64_t rows, double* sums) {
  const DD dd;
  const DFToD df;
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanesD) {
    auto sum = hn::LoadU(dd, sums + lane);
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      const auto weight = hn::PromoteTo(dd, hn::Load(df, e + i));
      const auto difference = hn::Sub(hn::PromoteTo(dd, hn::LoadU(df, a + i)), hn::PromoteTo(dd, hn::LoadU(df, b + i)));
      const auto term = hn::IfThenZeroElse(hn::Eq(weight, hn::Zero(dd)), hn::Mul(weight, difference));
      sum = hn::Add(sum, term);
    }
    hn::StoreU(sum, dd, sums + lane);
  }
}

void SummarizeLogits(const float* logits, uint32_t first_id, uint64_t rows, LogitSummary* summary) {
  HWY_ALIGN float e[kRowsTogether * kTileTokens];
  MaxOfPanel(logits, first_id, rows, summary);
  for (uint64_t row = 0; row < rows; row += kRowsTogether) {
    const uint64_t n = std::min(kRowsTogether, rows - row);
    Exponentials(logits + row * kTileTokens, n, summary->max, e);
    AddExponentials(e, n, summary->sum_exp);
  }
}

void SummarizeLogitPair(const float* a, const float* b, uint32_t first_id, uint64_t rows, LogitPairSummary* summary) {
  HWY_ALIGN float e[kRowsTogether * kTileTokens];
  MaxOfPanel(a, first_id, rows, &summary->a);
  MaxOfPanel(b, first_id, rows, &summary->b);
  for (uint64_t row = 0; row < rows; row += kRowsTogether) {
    const uint64_t n = std::min(kRowsTogether, rows - row), at = row * kTileTokens;
    Exponentials(a + at, n, summary->a.max, e);
    AddExponentials(e, n, summary->a.sum_exp);
    AddWeighted(e, a + at, b + at, n, summary->weighted);
    Exponentials(b + at, n, summary->b.max, e);
    AddExponentials(e, n, summary->b.sum_exp);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(SummarizeLogits);
HWY_EXPORT(SummarizeLogitPair);

namespace {

void TakeTargets(const float* logits, uint32_t first_id, uint64_t rows, const uint32_t (&targets)[kTileTokens],
                 LogitSummary* summary) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const uint32_t target = targets[lane];
    if (target == UINT32_MAX || target < first_id || target - first_id >= rows) continue;
    summary->target[lane] = logits[uint64_t{target - first_id} * kTileTokens + lane];
  }
}

// What a sum relative to `max` is to be multiplied by to be relative to `new_max`.
double Rescale(float max, float new_max) {
  if (new_max == kMinusInfinity) return 1;  // nothing but -infinity so far; sums are relative to 0
  return std::exp(static_cast<double>(max) - static_cast<double>(new_max));
}

}  // namespace

LogitSummary EmptyLogitSummary() {
  LogitSummary summary = {};
  std::fill_n(summary.max, kTileTokens, kMinusInfinity);
  std::fill_n(summary.target, kTileTokens, std::numeric_limits<float>::quiet_NaN());
  return summary;
}

LogitPairSummary EmptyLogitPairSummary() { return {EmptyLogitSummary(), EmptyLogitSummary(), {}}; }

void SummarizeLogits(const float* logits, uint32_t first_id, uint64_t rows, const uint32_t (&targets)[kTileTokens],
                     LogitSummary* summary) {
  SLUICE_CHECK(first_id % kLogitPanelRows == 0 && rows <= kLogitPanelRows);
  *summary = EmptyLogitSummary();
  HWY_DYNAMIC_DISPATCH(SummarizeLogits)(logits, first_id, rows, summary);
  TakeTargets(logits, first_id, rows, targets, summary);
}

void SummarizeLogitPair(const float* a, const float* b, uint32_t first_id, uint64_t rows,
                        const uint32_t (&targets)[kTileTokens], LogitPairSummary* summary) {
  SLUICE_CHECK(first_id % kLogitPanelRows == 0 && rows <= kLogitPanelRows);
  *summary = EmptyLogitPairSummary();
  HWY_DYNAMIC_DISPATCH(SummarizeLogitPair)(a, b, first_id, rows, summary);
  TakeTargets(a, first_id, rows, targets, &summary->a);
  TakeTargets(b, first_id, rows, targets, &summary->b);
}

void MergeLogitSummary(const LogitSummary& panel, LogitSummary* whole) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const bool larger = panel.max[lane] > whole->max[lane];
    const float max = larger ? panel.max[lane] : whole->max[lane];
    whole->sum_exp[lane] =
        whole->sum_exp[lane] * Rescale(whole->max[lane], max) + panel.sum_exp[lane] * Rescale(panel.max[lane], max);
    whole->max[lane] = max;
    if (larger) whole->argmax[lane] = panel.argmax[lane];
    if (!std::isnan(panel.target[lane])) whole->target[lane] = panel.target[lane];
  }
}

void MergeLogitPairSummary(const LogitPairSummary& panel, LogitPairSummary* whole) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const float max = std::max(panel.a.max[lane], whole->a.max[lane]);
    whole->weighted[lane] = whole->weighted[lane] * Rescale(whole->a.max[lane], max) +
                            panel.weighted[lane] * Rescale(panel.a.max[lane], max);
  }
  MergeLogitSummary(panel.a, &whole->a);
  MergeLogitSummary(panel.b, &whole->b);
}

double LogSumExp(const LogitSummary& summary, uint64_t lane) {
  const double max = summary.max[lane] == kMinusInfinity ? 0.0 : summary.max[lane];
  return max + std::log(summary.sum_exp[lane]);
}

double KlDivergence(const LogitPairSummary& summary, uint64_t lane) {
  return summary.weighted[lane] / summary.a.sum_exp[lane] + LogSumExp(summary.b, lane) - LogSumExp(summary.a, lane);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
