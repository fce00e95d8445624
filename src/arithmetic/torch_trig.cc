#include "arithmetic/torch_trig.h"

#include <bit>
#include <cmath>
#include <limits>

namespace sluice::arithmetic {
namespace {

constexpr double kPi = 3.14159265358979323846;

// sin r, |r| <= pi / 2, as MKL has it for f32.
double MklPolynomial(double r) {
  constexpr double kThird = -0x1.55554bc835626p-3, kFifth = 0x1.110ed38019dc4p-7, kSeventh = -0x1.9f6ffee07eecdp-13,
                   kNinth = 0x1.5dbdf052690c2p-19;
  const double s = r * r;
  return r + r * s * (kThird + s * (kFifth + s * (kSeventh + s * kNinth)));
}

// The polynomial at x - (k - offset) pi, k the nearest whole number, with the sign of that half turn.
float MklSine(double x, double offset) {
  if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
  const double k = std::nearbyint(x / kPi + offset);
  const double value = MklPolynomial(x - (k - offset) * kPi);
  return static_cast<float>(std::fmod(k, 2) == 0 ? value : -value);
}

}  // namespace

float TorchSin(WorkingType type, float x) { return RoundTo(type, MklSine(static_cast<double>(x), 0)); }

float TorchCos(WorkingType type, float x) { return RoundTo(type, MklSine(std::fabs(static_cast<double>(x)), 0.5)); }

// f32 throughout: asin x = x + x x^2 Q(x^2) up to 1/2, above that twice the arc sine of sqrt((1 - x) / 2), whose root's
// own rounding is taken away again.
float TorchAcos(WorkingType type, float x) {
  constexpr float kHalfPiHigh = 0x1.921fb6p+0f, kHalfPiLow = -0x1.777a5cp-25f;
  const auto scaled = [](float s) {
    constexpr float kThird = 0x1.5556p-3f, kFifth = 0x1.32f76ap-4f, kSeventh = 0x1.754924p-5f, kNinth = 0x1.85867ep-6f,
                    kEleventh = 0x1.5e6f7ap-5f;
    return s * ((((kEleventh * s + kNinth) * s + kSeventh) * s + kFifth) * s + kThird);
  };
  const float magnitude = std::fabs(x);
  if (!(magnitude <= 1)) return std::numeric_limits<float>::quiet_NaN();
  if (magnitude < 0.5f) return RoundTo(type, kHalfPiHigh - (x + (x * scaled(x * x) - kHalfPiLow)));
  const float z = (1 - magnitude) * 0.5f, root = std::sqrt(z);
  const auto of_root = static_cast<double>(root);
  const double error = z == 0 ? 0 : (static_cast<double>(z) - of_root * of_root) / (2 * of_root);
  const float rest = root * scaled(z) + static_cast<float>(error);
  if (x > 0) return RoundTo(type, 2 * (root + rest));
  return RoundTo(type, 2 * (kHalfPiHigh - (root + (rest - kHalfPiLow))));
}

float NumpySin(float x) {
  constexpr float kTwoOverPi = 0x1.45f306p-1f, kToWhole = 0x1.8p23f;
  const float k = (x * kTwoOverPi + kToWhole) - kToWhole;
  float r = std::fma(k, -0x1.921fb0p+0f, x);
  r = std::fma(k, -0x1.5110b4p-22f, r);
  r = std::fma(k, -0x1.846988p-48f, r);
  const float s = r * r;
  const auto quadrant = static_cast<int>(k);
  float value;
  if ((quadrant & 1) == 0) {
    value = std::fma(0x1.7d3bbcp-19f, s, -0x1.a06bbap-13f);
    value = std::fma(value, s, 0x1.11119ap-7f);
    value = std::fma(value, s, -0x1.555556p-3f);
    value = std::fma(value * s, r, r);
  } else {
    value = std::fma(0x1.98e616p-16f, s, -0x1.6c06dcp-10f);
    value = std::fma(value, s, 0x1.55553cp-5f);
    value = std::fma(value, s, -0.5f);
    value = std::fma(value, s, 1.0f);
  }
  return (quadrant & 2) == 0 ? value : -value;
}

float NumpyAcos(float x) {
  constexpr float kHalfPiHigh = 1.5707962513e+00f, kHalfPiLow = 7.5497894159e-08f;
  const auto ratio = [](float z) {
    const float p =
        z *
        (1.6666667163e-01f +
         z * (-3.2556581497e-01f +
              z * (2.0121252537e-01f + z * (-4.0055535734e-02f + z * (7.9153501429e-04f + z * 3.4793309169e-05f)))));
    const float q =
        1.0f + z * (-2.4033949375e+00f + z * (2.0209457874e+00f + z * (-6.8828397989e-01f + z * 7.7038154006e-02f)));
    return p / q;
  };
  const float magnitude = std::fabs(x);
  if (!(magnitude <= 1)) return std::numeric_limits<float>::quiet_NaN();
  if (magnitude == 1) return x > 0 ? 0.0f : 2 * 1.5707962513e+00f + 2 * kHalfPiLow;
  if (magnitude < 0.5f) {
    if (magnitude <= 0x1p-26f) return kHalfPiHigh + kHalfPiLow;
    const float r = ratio(x * x);
    return kHalfPiHigh - (x - (kHalfPiLow - x * r));
  }
  const float z = (1 - magnitude) * 0.5f, root = std::sqrt(z), r = ratio(z);
  if (x < 0) return 2 * kHalfPiHigh - 2 * (root + (r * root - kHalfPiLow));
  const float high = std::bit_cast<float>(std::bit_cast<uint32_t>(root) & 0xFFFFF000);
  const float low = (z - high * high) / (root + high);
  return 2 * (high + (r * root + low));
}

}  // namespace sluice::arithmetic
