// The arithmetic of sce (merge/methods/sce.cc has the formula), in f64: d_m = x_m - base, one operation at a time (no
// FMA), sums over the models in their order and begun with 0.
//
// Dispatched, same results on each target; thread-safe; arrays may stand anywhere. Which elements are kept is said by
// bits, element i's bit i % 32 of bits[i / 32] (mask_words.h); null: all are. Any NaN in a result of f32 is 0x7FC00000.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::kernels {

constexpr size_t kSquareLanes = 8;

// mean = (sum d_m) / n; variances[i] = (sum (d_m - mean)^2) / n, rounded to f32; n models.
void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances);

// lanes[m][i % 8] += d_m^2 of the elements kept, in order of i: [models, 8].
void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes);

// Over the models whose d_m is not 0 and has the sign of sum d_m (+ where that is not below 0):
// out = base + sum w_m d_m / max(sum w_m, 1e-6), rounded to f32; base where the element is not kept.
void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out);

namespace reference {
void Variances(const float* base, std::span<const float* const> x, uint64_t count, float* variances);
void AddSquares(const float* base, std::span<const float* const> x, const uint32_t* bits, uint64_t count,
                double* lanes);
void MergeAgreeing(const float* base, std::span<const float* const> x, const double* weights, const uint32_t* bits,
                   uint64_t count, float* out);
}  // namespace reference

}  // namespace sluice::kernels
