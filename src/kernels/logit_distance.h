// The total variation between two models' next-token distributions, a lane (token) at a time, from panels of vocabulary
// as the heads' products leave them: [rows][16] (tile.h). It needs both normalisers before the first difference, so
// panels pass twice: first logit_panels.h makes each model's summary (m, the largest logit; Z, the sum of e^{x - m}),
// then with p_i = e^{a_i - m_a} / Z_a and q_i = e^{b_i - m_b} / Z_b
//
//   TV(p, q) = 1/2 (sum over ids of both |p_i - q_i| + sum over ids of one model only of its p_i or q_i)
//
// and the sums here are twice that. e^x in f32 (exp_tanh.h), all else in f64. Rounding x - m and e^x, here and in Z,
// puts a probability off by at most 2e-7 + 1.2e-7 (m - x) of itself; the mean of m - x is at most the entropy, so TV is
// off by at most 2e-7 + 1.2e-7 ln(number of ids): 2e-6 for any vocabulary there is. Equal logits give 0 exactly. A
// panel is summed alone (any thread, any order) and added to the token's sum in order of ids, so the bits depend on
// nothing but the numbers. A summary of infinities or NaNs makes the sum NaN. Thread-safe.
#pragma once

#include <cstdint>

#include "kernels/logit_panels.h"
#include "kernels/tile.h"

namespace sluice::kernels {

// One panel: logits [a_rows][16] and [b_rows][16] of ids that begin at the same one; null where there are none. The
// first shared_rows ids, at most either's rows, mean the same token to both models, and the others to one of them
// alone.
struct LogitPairPanel {
  const float* a = nullptr;
  const float* b = nullptr;
  uint64_t a_rows = 0, b_rows = 0;
  uint64_t shared_rows = 0;
};

// What 2 TV gets from a panel: first the shared ids in order, then a's own, then b's. Rows at most kLogitPanelRows;
// summaries are of the whole vocabularies.
void SumLogitDistances(const LogitPairPanel& panel, const LogitSummary& of_a, const LogitSummary& of_b,
                       double (&sums)[kTileTokens]);

namespace reference {
void SumLogitDistances(const LogitPairPanel& panel, const LogitSummary& of_a, const LogitSummary& of_b,
                       double (&sums)[kTileTokens], bool fused);
}  // namespace reference

}  // namespace sluice::kernels
