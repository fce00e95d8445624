// torch's softmax and logarithm of a row, as it computes them on a CPU with 256-bit vectors.
//
// Exponentials are SLEEF's vector one (N. Shibata, F. Petrogalli, "SLEEF: a portable vectorized library of C standard
// mathematical functions", IEEE TPDS 31 (2020), arXiv 2001.09258; expf with an error under 1 unit): the argument less a
// multiple of log 2, then a polynomial, with fused multiply-adds. Eight lanes add them up; the sum's reciprocal is the
// factor. Of halves those behind the last eight are the C library's expf, which is correctly rounded but in rare cases:
// here always.
//
// The logarithm of f32 numbers is MKL's there, within one unit in the last place of the correctly rounded one that is
// given here. Of halves the two are the same, which was tried with all of them.
#pragma once

#include <cstdint>
#include <span>

#include "arithmetic/working_type.h"

namespace sluice::arithmetic {

float TorchExp(float x);  // x <= 0, or NaN

// out: as many as x.
void TorchSoftmax(WorkingType type, std::span<const float> x, float* out);

// Correctly rounded to f32. NaN below 0.
float TorchLog(float x);

}  // namespace sluice::arithmetic
