// The sums of logit_distance.h over one panel, one number at a time.
#include <cmath>

#include "kernels/layer_ops.h"
#include "kernels/logit_distance.h"

namespace sluice::kernels::reference {

void SumLogitDistances(const LogitPairPanel& panel, const LogitSummary& of_a, const LogitSummary& of_b,
                       double (&sums)[kTileTokens], bool fused) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    const auto probability = [&](const float* logits, uint64_t row, const LogitSummary& of) {
      const double e = static_cast<double>(Exp(logits[row * kTileTokens + lane] - of.max[lane], fused));
      return e * (1 / of.sum_exp[lane]);
    };
    sums[lane] = 0;
    for (uint64_t row = 0; row < panel.shared_rows; ++row) {
      sums[lane] += std::abs(probability(panel.a, row, of_a) - probability(panel.b, row, of_b));
    }
    for (uint64_t row = panel.shared_rows; row < panel.a_rows; ++row) sums[lane] += probability(panel.a, row, of_a);
    for (uint64_t row = panel.shared_rows; row < panel.b_rows; ++row) sums[lane] += probability(panel.b, row, of_b);
  }
}

}  // namespace sluice::kernels::reference
