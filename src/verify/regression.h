// Regression of one vector on others from inner products alone, with errors that rounding, masks and dependence between
// neighbours do not make too small. docs/lineage.md has the mathematics.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace sluice::verify {

// Inner products of the k regressors and, last, the response over one cluster of elements: GramPairs(k + 1) numbers in
// the order of kernels/gram.h.
using ClusterSums = std::span<const double>;

struct Coefficient {
  enum class Standing {
    kFitted,
    kZero,   // the regressor is zero wherever it was looked at: nothing can be said
    kAlias,  // a combination of regressors before it: cannot be told from them, and was left out
  };
  Standing standing = Standing::kFitted;
  double value = 0;
  // One standard error; nullopt where there are too few clusters to tell, or all of the regressor lies in one.
  std::optional<double> error;
  double rounding_bias = 0;  // that was taken out of value; MODEL's rounding made it
  double own_share = 0;  // of the regressor's square, what the fitted ones before and after it do not explain: 1 / VIF
  double explains = 0;   // of the response's square; those of all regressors add up to R^2, and can be negative
  std::vector<std::pair<size_t, double>> alias;  // kAlias: regressor and factor, of the combination that it is

  bool fitted() const { return standing == Standing::kFitted; }
};

struct Regression {
  std::vector<Coefficient> coefficients;  // in the order of the regressors
  double response_squared = 0, residual_squared = 0;
  size_t clusters = 0;
  // 1 - residual / response; nullopt where the response is zero.
  std::optional<double> r_squared() const;
};

// Of the sums of all clusters together. Errors: jackknife, one cluster left out at a time (CR3).
Regression Regress(size_t num_regressors, std::span<const ClusterSums> clusters);

// Errors of `fit` become those of the jackknife over other clusters of the same elements where these are larger.
void WidenErrors(std::span<const ClusterSums> clusters, Regression* fit);

// Least clusters that errors are made of.
constexpr size_t kLeastClusters = 8;
// A pivot below this share of its regressor's square is no more than the rounding of f64 sums (1e-11) may leave of a
// combination of others.
constexpr double kLeastOwnShare = 1e-9;

}  // namespace sluice::verify
