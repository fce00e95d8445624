// Linear combinations of vectors in f64, and what is needed to find their factors: inner products.
//
// The vectors are x_m, or their differences x_m - base where there is a base: numbers are widened to f64 before they
// are subtracted. Products and sums are f64, one operation at a time (no FMA). Dispatched, same results on each target
// but for which NaN a sum is; thread-safe; arrays may stand anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::kernels {

constexpr size_t kProductLanes = 8;

// lanes[pair][(first_element + i) % 8] += v_j[i] v_k[i] in order of i, for all pairs j <= k: [pairs, 8], in order of j,
// then k. base may be null.
void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes);

// out[i] = the sum of c_m v_m[i] in order of m, begun with base[i] (-0 without a base), rounded to f32; a NaN is
// 0x7FC00000. c_m is factors[m][0], or factors[m][i] with `by_element`. out may not overlap the others.
void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out);

namespace reference {
void AddInnerProducts(const float* base, std::span<const float* const> x, uint64_t first_element, uint64_t count,
                      double* lanes);
void Combine(const float* base, std::span<const float* const> x, const double* const* factors, bool by_element,
             uint64_t count, float* out);
}  // namespace reference

}  // namespace sluice::kernels
