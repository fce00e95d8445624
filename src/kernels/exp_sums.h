// e^x in f64, and sums of it over groups of 32 elements: what a divergence of softmaxes is made of.
//
// Additions, multiplications and comparisons alone, each rounded (no FMA): the same bits on every machine, where the C
// library's exp depends on its version and the processor. Within a few units in the last place. Dispatched;
// thread-safe; arrays may stand anywhere.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// out[i] = e^x[i]; 0 below -693 (2^-1000), infinity above 709. out may be x.
void PlainExps(const double* x, uint64_t count, double* out);

constexpr uint64_t kExpGroup = 32;

// Of one group: the largest x and base (NaN aside), and in the order of the elements, begun with 0,
// sum e^(x - x_most), sum e^(x - x_most) (x - base), sum e^(base - base_most).
struct GroupExpSums {
  double x_most, x_sum, base_most, base_sum, differences;
};
// Of each of the groups. A NaN's bits depend on the target.
void SumExpGroups(const float* x, const float* base, uint64_t num_groups, GroupExpSums* sums);

namespace reference {
void PlainExps(const double* x, uint64_t count, double* out);
// Of up to kExpGroup elements.
GroupExpSums SumExps(const float* x, const float* base, uint64_t count);
}  // namespace reference

}  // namespace sluice::kernels
