// Constants and scalar forms of e^x and tanh x in f32, shared by the vector forms (exp_tanh-inl.h) and the references.
//
//   e^x = 2^n e^r,  n = round(x / ln 2),  r = x - n ln2_high - n ln2_low,  e^r = 1 + r + r^2 P(r),  |r| <= 0.347
//   tanh x = x + x^3 Q(x^2) below 0.625, else sign(x) (1 - 2 / (e^{2|x|} + 1))
//
// ln2_high has 9 bits, so n ln2_high is exact with and without FMA (Cody and Waite). P and Q are minimax polynomials
// (Remez, relative error of e^r 3e-9, of tanh 5e-9), far below the 6e-8 of rounding.
#pragma once

namespace sluice::kernels::exp_tanh {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
// Beyond these e^x rounds to 0 and to infinity.
constexpr float kExpLowest = -104.0f, kExpHighest = 89.0f;
constexpr float kP[] = {0.49999994f, 0.166665196f, 0.0416683927f, 0.00836875569f, 0.00138145185f};
constexpr float kTanhSmall = 0.625f;
constexpr float kQ[] = {-0.333332807f, 0.133314416f, -0.0537397154f, 0.020639088f, -0.00570498733f};

}  // namespace sluice::kernels::exp_tanh
