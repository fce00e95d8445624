#include "arithmetic/plain_math.h"

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/exp_sums.h"

namespace sluice::arithmetic {
namespace {

constexpr double kPi = 3.14159265358979323846;
// Constants in two parts, the first with zeros at its end: k times it is exact for small k.
constexpr double kHalfPiHigh = 0x1.921fb544p+0, kHalfPiLow = 0x1.0b4611a626331p-34;
constexpr double kLn2High = 0x1.62e42fefap-1, kLn2Low = 0x1.cf79abc9e3b39p-40;

// Taylor's series, |r| <= pi / 4: the first term left out is under 1e-18.
double SinOfSmall(double r) {
  const double square = r * r;
  double sum = 0;
  for (int k = 17; k >= 3; k -= 2) sum = (sum + (k % 4 == 1 ? 1 : -1)) * square / (k * (k - 1));
  return r + r * sum;
}
double CosOfSmall(double r) {
  const double square = r * r;
  double sum = 0;
  for (int k = 18; k >= 2; k -= 2) sum = (sum + (k % 4 == 0 ? 1 : -1)) * square / (k * (k - 1));
  return 1 + sum;
}

// sin(x + quarters pi / 2)
double SinOf(double x, int quarters) {
  if (!std::isfinite(x)) return std::numeric_limits<double>::quiet_NaN();
  const double reduced = std::fmod(x, 2 * kPi);
  const double quarter = std::nearbyint(reduced / (kPi / 2));
  const double r = (reduced - quarter * kHalfPiHigh) - quarter * kHalfPiLow;
  switch ((static_cast<int>(quarter) + quarters) & 3) {
    case 0:
      return SinOfSmall(r);
    case 1:
      return CosOfSmall(r);
    case 2:
      return -SinOfSmall(r);
    default:
      return -CosOfSmall(r);
  }
}

// y >= 0. Halved three times: atan y = 2 atan(y / (1 + sqrt(1 + y^2))).
double Atan(double y) {
  if (y > 1) return kPi / 2 - Atan(1 / y);
  for (int i = 0; i < 3; ++i) y = y / (1 + std::sqrt(1 + y * y));
  const double square = y * y;  // under 0.01
  double sum = 0;
  for (int k = 17; k >= 3; k -= 2) sum = (sum + (k % 4 == 1 ? 1.0 : -1.0) / k) * square;
  return 8 * (y + y * sum);
}

}  // namespace

double PlainSin(double x) { return SinOf(x, 0); }
double PlainCos(double x) { return SinOf(x, 1); }

double PlainAcos(double x) {
  if (x <= -1) return kPi;
  return 2 * Atan(std::sqrt((1 - x) / (1 + x)));
}

double PlainExp(double x) {
  double out = 0;
  kernels::reference::PlainExps(&x, 1, &out);
  return out;
}

double PlainLog(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // [0.5, 1)
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1), square = s * s;  // under 0.03
  double sum = 0;
  for (int k = 25; k >= 3; k -= 2) sum = (sum + 1.0 / k) * square;
  return exponent * kLn2High + (exponent * kLn2Low + 2 * (s + s * sum));
}

}  // namespace sluice::arithmetic
