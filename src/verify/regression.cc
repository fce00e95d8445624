#include "verify/regression.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/gram.h"

namespace sluice::verify {
namespace {

using Standing = Coefficient::Standing;
using kernels::GramPair;
using kernels::GramPairs;

// Symmetric, [n, n], by rows.
class Matrix {
 public:
  explicit Matrix(size_t n) : n_(n), values_(n * n) {}
  double& operator()(size_t i, size_t j) { return values_[i * n_ + j]; }
  double operator()(size_t i, size_t j) const { return values_[i * n_ + j]; }
  size_t size() const { return n_; }

 private:
  size_t n_;
  std::vector<double> values_;
};

double At(std::span<const double> sums, size_t k, size_t i, size_t j) {
  return sums[GramPair(k + 1, std::min(i, j), std::max(i, j))];
}

// L L' = a in the lower half; false where a pivot falls below `least` of its diagonal.
bool Factorise(Matrix* a, double least) {
  for (size_t i = 0; i < a->size(); ++i) {
    const double diagonal = (*a)(i, i);
    for (size_t j = 0; j <= i; ++j) {
      double sum = (*a)(i, j);
      for (size_t l = 0; l < j; ++l) sum -= (*a)(i, l) * (*a)(j, l);
      if (i == j) {
        if (!(sum > least * diagonal)) return false;
        (*a)(i, i) = std::sqrt(sum);
      } else {
        (*a)(i, j) = sum / (*a)(j, j);
      }
    }
  }
  return true;
}

void Solve(const Matrix& factor, std::vector<double>* x) {
  const size_t n = factor.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < i; ++j) (*x)[i] -= factor(i, j) * (*x)[j];
    (*x)[i] /= factor(i, i);
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t j = i + 1; j < n; ++j) (*x)[i] -= factor(j, i) * (*x)[j];
    (*x)[i] /= factor(i, i);
  }
}

Matrix Gather(std::span<const double> sums, size_t k, std::span<const size_t> of) {
  Matrix matrix(of.size());
  for (size_t i = 0; i < of.size(); ++i) {
    for (size_t j = 0; j < of.size(); ++j) matrix(i, j) = At(sums, k, of[i], of[j]);
  }
  return matrix;
}

std::vector<double> Total(size_t k, std::span<const ClusterSums> clusters) {
  std::vector<double> total(GramPairs(k + 1));
  for (const ClusterSums& cluster : clusters) {
    SLUICE_CHECK(cluster.size() == total.size());
    for (size_t i = 0; i < total.size(); ++i) total[i] += cluster[i];
  }
  return total;
}

// What a regressor is made of, if it is of `fitted` ones: nullopt where enough of it is its own.
std::optional<std::vector<double>> AliasOf(std::span<const double> total, size_t k, size_t regressor,
                                           std::span<const size_t> fitted) {
  Matrix factor = Gather(total, k, fitted);
  SLUICE_CHECK(Factorise(&factor, 0));
  std::vector<double> x(fitted.size());
  for (size_t i = 0; i < fitted.size(); ++i) x[i] = At(total, k, fitted[i], regressor);
  double own = At(total, k, regressor, regressor);
  const double square = own;
  std::vector<double> factors = x;
  Solve(factor, &factors);
  for (size_t i = 0; i < fitted.size(); ++i) own -= x[i] * factors[i];
  if (own > kLeastOwnShare * square) return std::nullopt;
  return factors;
}

std::vector<size_t> Fitted(const Regression& fit) {
  std::vector<size_t> fitted;
  for (size_t i = 0; i < fit.coefficients.size(); ++i) {
    if (fit.coefficients[i].fitted()) fitted.push_back(i);
  }
  return fitted;
}

// Variances of the fitted coefficients by the jackknife: b without cluster c less b is -(G - G_c)^-1 s_c, where
// s_c = X_c' e_c. Infinite where b is not determined without some cluster.
std::vector<double> Jackknife(const Regression& fit, std::span<const double> total,
                              std::span<const ClusterSums> clusters) {
  const size_t k = fit.coefficients.size();
  const std::vector<size_t> fitted = Fitted(fit);
  std::vector<double> variance(fitted.size());
  std::vector<double> rest(total.size());
  for (const ClusterSums& cluster : clusters) {
    bool is_empty = true;
    for (const size_t i : fitted) is_empty = is_empty && At(cluster, k, i, i) == 0;
    if (is_empty) continue;
    for (size_t i = 0; i < total.size(); ++i) rest[i] = total[i] - cluster[i];
    // A regressor that lies in this cluster alone is left out, and has no error.
    std::vector<size_t> determined, places;
    for (size_t place = 0; place < fitted.size(); ++place) {
      const size_t i = fitted[place];
      if (At(rest, k, i, i) > kLeastOwnShare * At(total, k, i, i)) {
        determined.push_back(i);
        places.push_back(place);
      } else {
        variance[place] = INFINITY;
      }
    }
    Matrix factor = Gather(rest, k, determined);
    if (!Factorise(&factor, kLeastOwnShare)) {
      std::ranges::fill(variance, INFINITY);
      break;
    }
    std::vector<double> change(determined.size());
    for (size_t a = 0; a < determined.size(); ++a) {
      double score = At(cluster, k, determined[a], k);
      for (const size_t j : fitted) score -= At(cluster, k, determined[a], j) * fit.coefficients[j].value;
      change[a] = score;
    }
    Solve(factor, &change);
    for (size_t a = 0; a < determined.size(); ++a) variance[places[a]] += change[a] * change[a];
  }
  const auto n = static_cast<double>(clusters.size());
  for (double& v : variance) v *= (n - 1) / n;
  return variance;
}

}  // namespace

std::optional<double> Regression::r_squared() const {
  if (!(response_squared > 0)) return std::nullopt;
  return 1 - residual_squared / response_squared;
}

Regression Regress(size_t k, std::span<const ClusterSums> clusters) {
  Regression fit;
  fit.coefficients.resize(k);
  fit.clusters = clusters.size();
  const std::vector<double> total = Total(k, clusters);
  fit.response_squared = fit.residual_squared = At(total, k, k, k);

  std::vector<size_t> fitted;
  for (size_t i = 0; i < k; ++i) {
    Coefficient& coefficient = fit.coefficients[i];
    if (!(At(total, k, i, i) > 0)) {
      coefficient.standing = Standing::kZero;
      continue;
    }
    if (const auto factors = AliasOf(total, k, i, fitted)) {
      coefficient.standing = Standing::kAlias;
      for (size_t j = 0; j < fitted.size(); ++j) {
        if (std::abs((*factors)[j]) > 1e-6) coefficient.alias.emplace_back(fitted[j], (*factors)[j]);
      }
      continue;
    }
    fitted.push_back(i);
  }
  if (fitted.empty()) return fit;

  Matrix factor = Gather(total, k, fitted);
  SLUICE_CHECK(Factorise(&factor, 0));
  std::vector<double> b(fitted.size());
  for (size_t i = 0; i < fitted.size(); ++i) b[i] = At(total, k, fitted[i], k);
  Solve(factor, &b);
  for (size_t i = 0; i < fitted.size(); ++i) {
    Coefficient& coefficient = fit.coefficients[fitted[i]];
    coefficient.value = b[i];
    const double product = b[i] * At(total, k, fitted[i], k);
    if (fit.response_squared > 0) coefficient.explains = product / fit.response_squared;
    fit.residual_squared -= product;
    std::vector<double> unit(fitted.size());
    unit[i] = 1;
    Solve(factor, &unit);
    coefficient.own_share = 1 / (unit[i] * At(total, k, fitted[i], fitted[i]));
  }
  // A sum of squares; what lies below the rounding of f64 sums is nothing.
  if (fit.residual_squared < 1e-12 * fit.response_squared) fit.residual_squared = 0;

  if (clusters.size() >= kLeastClusters) {
    const std::vector<double> variance = Jackknife(fit, total, clusters);
    for (size_t i = 0; i < fitted.size(); ++i) {
      if (std::isfinite(variance[i])) fit.coefficients[fitted[i]].error = std::sqrt(variance[i]);
    }
  }
  return fit;
}

void WidenErrors(std::span<const ClusterSums> clusters, Regression* fit) {
  if (clusters.size() < kLeastClusters) return;
  const std::vector<double> variance = Jackknife(*fit, Total(fit->coefficients.size(), clusters), clusters);
  const std::vector<size_t> fitted = Fitted(*fit);
  for (size_t i = 0; i < fitted.size(); ++i) {
    Coefficient& coefficient = fit->coefficients[fitted[i]];
    // All of it in one of the coarser clusters says nothing about the finer ones.
    if (coefficient.error && std::isfinite(variance[i])) {
      coefficient.error = std::max(*coefficient.error, std::sqrt(variance[i]));
    }
  }
}

}  // namespace sluice::verify
