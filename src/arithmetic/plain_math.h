// Elementary functions in f64, of additions, multiplications, divisions and square roots alone: the same bits on every
// machine, where the C library's depend on its version and the processor. Within a few units in the last place.
#pragma once

namespace sluice::arithmetic {

double PlainExp(double x);  // kernels::PlainExps of one
double PlainLog(double x);  // x > 0, finite
double PlainSin(double x);  // good up to |x| of some 1e6
double PlainCos(double x);
double PlainAcos(double x);  // -1 <= x <= 1; NaN of NaN

}  // namespace sluice::arithmetic
