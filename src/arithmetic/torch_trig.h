// Sines, cosines and arc cosines of f32 numbers as mergekit has them from the libraries under it. numpy's are
// reproduced; torch's come from MKL, whose code nobody sees, and are made from what it answers.
#pragma once

#include "arithmetic/working_type.h"

namespace sluice::arithmetic {

// torch's, of a number of the type, rounded to the type. bf16 and f16: its bits for every number up to 4, checked one
// by one. f32: made from MKL's answers to some million numbers each. Sine and cosine are a polynomial in f64 with one
// rounding, whose coefficients these leave no room for; they differ in one of a million numbers. The arc cosine is in
// f32 step by step, its coefficients near MKL's; it differs by one unit in the last place, in 2 of 10,000 numbers up to
// 1/2 and 2 of 1,000 above.
float TorchSin(WorkingType type, float x);
float TorchCos(WorkingType type, float x);
float TorchAcos(WorkingType type, float x);

// numpy's sine, |x| <= 100,000: the nearest multiple of pi / 2 taken away in three fused steps, and polynomials of
// fused steps (T. Myklebust, arXiv 1508.03211; numpy's loops_trigonometric).
float NumpySin(float x);
// numpy's arc cosine is the C library's: here that of glibc 2.36, Sun's rational approximation in f32.
float NumpyAcos(float x);

}  // namespace sluice::arithmetic
