// slerp, nuslerp, multislerp, model_stock and karcher on the vectors themselves, as mergekit writes them, in long
// double.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "merge/testing/plain_formulas.h"

namespace sluice::tests {
namespace {

using Real = long double;
using Vector = std::vector<Real>;

Real Dot(const Vector& a, const Vector& b) {
  Real sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
Real Norm(const Vector& a) { return std::sqrt(Dot(a, a)); }

Vector Times(Vector a, Real factor) {
  for (Real& value : a) value *= factor;
  return a;
}
Vector Sum(Vector a, const Vector& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

Vector Slerp(const Vector& base, const Vector& x, Real t) {
  const auto length = [](const Vector& v) { return Norm(v) > 1e-8L ? Norm(v) : 1; };
  const Real cosine = Dot(base, x) / length(base) / length(x);
  if (std::fabs(cosine) > 0.9995L) return Sum(Times(base, 1 - t), Times(x, t));
  const Real theta = std::acos(cosine);
  return Sum(Times(base, std::sin(theta - theta * t) / std::sin(theta)),
             Times(x, std::sin(theta * t) / std::sin(theta)));
}

Vector Nuslerp(const Vector& a, const Vector& b, Real t) {
  const Real cosine = Dot(a, b) / std::max(Norm(a), 1e-7L) / std::max(Norm(b), 1e-7L);
  const Real theta = std::acos(std::clamp<Real>(cosine, -1, 1));
  if (std::fabs(std::sin(theta)) < 1e-8L) return Sum(Times(a, 1 - t), Times(b, t));
  return Sum(Times(a, std::sin((1 - t) * theta) / std::sin(theta)), Times(b, std::sin(t * theta) / std::sin(theta)));
}

// With the step along the tangent space that sluice leaves out.
Vector Multislerp(const std::vector<Vector>& x, const Vector& weights, Real eps) {
  std::vector<Vector> units;
  Vector mean(x[0].size());
  Real length = 0;
  for (size_t m = 0; m < x.size(); ++m) {
    units.push_back(Times(x[m], 1 / (Norm(x[m]) + eps)));
    mean = Sum(mean, Times(units[m], weights[m]));
    length += weights[m] * Norm(x[m]);
  }
  if (Norm(mean) < eps) {
    Vector sum(mean.size());
    for (size_t m = 0; m < x.size(); ++m) sum = Sum(sum, Times(x[m], weights[m]));
    return sum;
  }
  mean = Times(mean, 1 / Norm(mean));
  Vector tangent(mean.size());
  for (size_t m = 0; m < x.size(); ++m) {
    tangent = Sum(tangent, Times(Sum(units[m], Times(mean, -Dot(units[m], mean))), weights[m]));
  }
  const Real norm = Norm(tangent) + eps;
  return Times(Sum(Times(mean, std::cos(norm)), Times(tangent, std::sin(norm) / norm)), length);
}

// The factor of the average's difference from the base, times that.
Vector ModelStock(const std::vector<Vector>& d) {
  const auto n = static_cast<Real>(d.size());
  Real cosine = 0;
  Vector sum(d[0].size());
  for (size_t i = 0; i < d.size(); ++i) {
    sum = Sum(sum, d[i]);
    for (size_t j = i + 1; j < d.size(); ++j) {
      cosine += std::clamp<Real>(Dot(d[i], d[j]) / std::max(Norm(d[i]) * Norm(d[j]), 1e-6L), -1, 1);
    }
  }
  cosine /= n * (n - 1) / 2;
  return Times(sum, n * cosine / (1 + (n - 1) * cosine) / n);
}

Vector Karcher(const std::vector<Vector>& x, int max_iter, Real tol) {
  std::vector<Vector> units;
  Real length = 0;
  for (const Vector& v : x) {
    length += Norm(v) / static_cast<Real>(x.size());
    if (Norm(v) > tol) units.push_back(Times(v, 1 / Norm(v)));
  }
  Vector u(x[0].size());
  if (units.empty()) return u;
  const Real share = 1 / static_cast<Real>(units.size());
  for (const Vector& unit : units) u = Sum(u, Times(unit, share));
  u = Norm(u) < tol ? units[0] : Times(u, 1 / Norm(u));
  for (int i = 0; i < max_iter; ++i) {
    Vector tangent(u.size());
    for (const Vector& unit : units) {
      const Real cosine = std::clamp<Real>(Dot(u, unit), -1, 1), theta = std::acos(cosine);
      if (theta < tol) continue;
      tangent = Sum(tangent, Times(Sum(unit, Times(u, -cosine)), share * theta / std::sin(theta)));
    }
    const Real norm = Norm(tangent);
    if (norm < tol) break;
    u = Sum(Times(u, std::cos(norm)), Times(tangent, std::sin(norm) / norm));
    u = Times(u, 1 / Norm(u));
  }
  return Times(u, length);
}

Vector OfMethod(const std::string& name, const std::vector<Vector>& x, const MethodSettings& s) {
  if (name == "slerp") return Slerp(x[0], x[1], s.Other("t", std::fabs(s.weight[0]) * 0.01));
  if (name == "nuslerp") {
    const Real sum = Real{s.weight[0]} + s.weight[1];
    return Nuslerp(x[0], x[1], std::fabs(sum) < 1e-6L ? 0.5L : s.weight[1] / sum);
  }
  if (name == "multislerp") {
    Vector weights(s.weight.begin(), s.weight.begin() + static_cast<int64_t>(x.size()));
    Real sum = 0;
    for (const Real w : weights) sum += w;
    if (x.size() == 1) return x[0];
    return Multislerp(x, s.Other("normalize_weights", 1) != 0 ? Times(weights, 1 / sum) : weights,
                      s.Other("eps", 1e-8));
  }
  if (name == "model_stock") return ModelStock(x);
  if (name == "karcher") return Karcher(x, static_cast<int>(s.Other("max_iter", 10)), s.Other("tol", 1e-5));
  ADD_FAILURE() << "write down the plain formula of " << name;
  return x[0];
}

}  // namespace

Floats SphericalFormula(const std::string& name, const Floats& base, const std::vector<Floats>& x,
                        const MethodSettings& s) {
  const size_t n = x[0].size();
  const bool is_slerp = name == "slerp";  // whose base is one of the vectors
  const bool differences = name == "model_stock" || ((name == "nuslerp" || name == "multislerp") && s.with_base &&
                                                     !(name == "multislerp" && x.size() == 1));
  const size_t columns = s.columns > 0 ? s.columns : n;
  // Which elements are one vector: [first, first + step, ...), `count` of them.
  size_t vectors = 1, step = 1, count = n;
  bool by_rows = (name == "model_stock" && s.Other("filter_wise", 0) != 0);
  bool by_columns = false;
  if (name == "nuslerp" && s.Other("nuslerp_flatten", 1) == 0) {
    by_columns = s.columns > 0 && s.Other("nuslerp_row_wise", 0) != 0;
    by_rows = !by_columns;
  }
  if (n > 0 && by_rows) vectors = n / columns, count = columns;
  if (n > 0 && by_columns) vectors = columns, count = n / columns, step = columns;
  Floats out(n);
  for (size_t v = 0; v < vectors; ++v) {
    const size_t first = by_rows ? v * columns : v;
    std::vector<Vector> parts;
    if (is_slerp) parts.emplace_back();
    for (size_t i = 0; i < count && is_slerp; ++i) parts[0].push_back(base[first + i * step]);
    for (const Floats& values : x) {
      Vector& part = parts.emplace_back();
      for (size_t i = 0; i < count; ++i) {
        const size_t at = first + i * step;
        part.push_back(Real{values[at]} - (differences ? Real{base[at]} : 0));
      }
    }
    const Vector merged = OfMethod(name, parts, s);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = first + i * step;
      out[at] = static_cast<float>(merged[i] + (differences ? Real{base[at]} : 0));
    }
  }
  return out;
}

}  // namespace sluice::tests
