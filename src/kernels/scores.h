// arcee_fusion's scores of elements, |x - base| times a number of their row's, in f32, one operation at a time.
// Dispatched, same results on each target (but for which NaN a score is); thread-safe; arrays may stand anywhere.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// scores[i] = |x[i] - base[i]| factor
void Scores(const float* x, const float* base, float factor, uint64_t count, float* scores);
// numbers[i] *= factor
void Scale(float factor, uint64_t count, float* numbers);
// out[i] = x[i] where its score is `threshold` or more, else base[i]: never where either is NaN. `out` may be one of
// the others.
void TakeScored(const float* x, const float* base, float factor, float threshold, uint64_t count, float* out);

namespace reference {
void Scores(const float* x, const float* base, float factor, uint64_t count, float* scores);
void Scale(float factor, uint64_t count, float* numbers);
void TakeScored(const float* x, const float* base, float factor, float threshold, uint64_t count, float* out);
}  // namespace reference

}  // namespace sluice::kernels
