// The sums of logit_panels.h over one panel, one number at a time.
#include <limits>

#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"

namespace sluice::kernels::reference {

void SummarizeLogits(const float* logits, uint32_t first_id, uint64_t rows, const uint32_t (&targets)[kTileTokens],
                     LogitSummary* summary, bool fused) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  *summary = EmptyLogitSummary();
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    summary->argmax[lane] = first_id;
    for (uint64_t row = 0; row < rows; ++row) {
      const float x = logits[row * kTileTokens + lane];
      if (x > summary->max[lane]) {
        summary->max[lane] = x;
        summary->argmax[lane] = first_id + static_cast<uint32_t>(row);
      }
      if (targets[lane] == first_id + row) summary->target[lane] = x;
    }
    const float from = summary->max[lane] == kMinusInfinity ? 0.0f : summary->max[lane];
    for (uint64_t row = 0; row < rows; ++row) {
      summary->sum_exp[lane] += static_cast<double>(Exp(logits[row * kTileTokens + lane] - from, fused));
    }
  }
}

void SummarizeLogitPair(const float* a, const float* b, uint32_t first_id, uint64_t rows,
                        const uint32_t (&targets)[kTileTokens], LogitPairSummary* summary, bool fused) {
  *summary = EmptyLogitPairSummary();
  SummarizeLogits(a, first_id, rows, targets, &summary->a, fused);
  SummarizeLogits(b, first_id, rows, targets, &summary->b, fused);
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const float max = summary->a.max[lane];
    const float from = max == -std::numeric_limits<float>::infinity() ? 0.0f : max;
    for (uint64_t i = lane; i < rows * kTileTokens; i += kTileTokens) {
      const double weight = static_cast<double>(Exp(a[i] - from, fused));
      if (weight != 0) summary->weighted[lane] += weight * (static_cast<double>(a[i]) - static_cast<double>(b[i]));
    }
  }
}

}  // namespace sluice::kernels::reference
