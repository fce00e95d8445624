// Sines, cosines and arc cosines of f32 numbers as mergekit has them from the libraries under it. numpy's are
// reproduced; torch's come from MKL, whose code nobody sees, and are made from what it answers.
#pragma once

#include "merge/working_type.h"

namespace sluice::merge {

// torch's, of a number of the type, rounded to the type. bf16 and f16: its bits for every number up to 4, checked one
// by one. f32: sine and cosine are a polynomial in f64, one rounding, whose coefficients were fitted to MKL's answers,
// and differ in one of some million numbers; the arc cosine is within one unit in the last place: the nearest number to
// the true one, where MKL is off by up to 0.8 units.
float TorchSin(WorkingType type, float x);
float TorchCos(WorkingType type, float x);
float TorchAcos(WorkingType type, float x);

// numpy's sine, |x| <= 100,000: the nearest multiple of pi / 2 taken away in three fused steps, and polynomials of
// fused steps (T. Myklebust, arXiv 1508.03211; numpy's loops_trigonometric).
float NumpySin(float x);
// numpy's arc cosine is the C library's: glibc's up to 2.40, Sun's rational approximation in f32.
float NumpyAcos(float x);

}  // namespace sluice::merge
