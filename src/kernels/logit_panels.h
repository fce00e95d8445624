// What perplexity needs of logits, a lane (token) at a time, from panels of vocabulary as the head's product leaves
// them: [rows][16] (tile.h). No logits need be kept.
//
// The vocabulary is cut into panels of kLogitPanelRows from id 0, the last shorter. A summary of each panel is computed
// alone (any thread, any order) and merged into the token's in order of ids, so the bits depend on nothing else. e^x in
// f32, sums in f64; the means of two models' exponentials in one pass: with m_a, Z_a and so on of the summary,
//   lse = m + ln Z;   nll(target) = lse - target;   KL(a || b) = weighted / Z_a + lse_b - lse_a   (nats)
// A NaN among the logits makes Z, and so lse, NaN. Thread-safe.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace sluice::kernels {

constexpr uint64_t kLogitPanelRows = 1024;

struct LogitSummary {
  double sum_exp[kTileTokens];   // Z = sum e^{x - max}
  float max[kTileTokens];        // -infinity: nothing yet
  float target[kTileTokens];     // the target id's logit; NaN while it has not been met
  uint32_t argmax[kTileTokens];  // lowest id among equals
};
// Two models' logits of the same tokens: a is the base.
struct LogitPairSummary {
  LogitSummary a, b;
  double weighted[kTileTokens];  // sum e^{a - max_a} (a - b)
};

LogitSummary EmptyLogitSummary();
LogitPairSummary EmptyLogitPairSummary();

// Summary of one panel: ids first_id .. first_id + rows - 1, logits [rows][16]. first_id is a multiple of
// kLogitPanelRows and rows at most that. targets: an id for each lane; UINT32_MAX where there is none.
void SummarizeLogits(const float* logits, uint32_t first_id, uint64_t rows, const uint32_t (&targets)[kTileTokens],
                     LogitSummary* summary);
void SummarizeLogitPair(const float* a, const float* b, uint32_t first_id, uint64_t rows,
                        const uint32_t (&targets)[kTileTokens], LogitPairSummary* summary);

// Appends the next panel's summary.
void MergeLogitSummary(const LogitSummary& panel, LogitSummary* whole);
void MergeLogitPairSummary(const LogitPairSummary& panel, LogitPairSummary* whole);

// ln sum e^x of a lane, nats.
double LogSumExp(const LogitSummary& summary, uint64_t lane);
// KL(a || b) of a lane, nats; rounding may leave it a little below 0.
double KlDivergence(const LogitPairSummary& summary, uint64_t lane);

namespace reference {
void SummarizeLogits(const float* logits, uint32_t first_id, uint64_t rows, const uint32_t (&targets)[kTileTokens],
                     LogitSummary* summary, bool fused);
void SummarizeLogitPair(const float* a, const float* b, uint32_t first_id, uint64_t rows,
                        const uint32_t (&targets)[kTileTokens], LogitPairSummary* summary, bool fused);
}  // namespace reference

}  // namespace sluice::kernels
