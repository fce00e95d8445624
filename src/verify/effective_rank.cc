#include "verify/effective_rank.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#define EIGEN_DONT_PARALLELIZE
#include <eigen3/Eigen/Core>
#include <eigen3/Eigen/Eigenvalues>

#include "base/check.h"

namespace sluice::verify {
namespace {

// Eigenvalues below this part of the largest are f64's own roundings.
constexpr double kRoundOff = 1e-13;
constexpr int kRoundsOfCapping = 4;  // the last changes nothing that would be seen
// A direction weaker than (the share of elements that did not change) / 4 of the strongest may be rounding's.
constexpr double kHarmonics = 1.0 / 16;

}  // namespace

const char* RankKindName(RankKind kind) {
  switch (kind) {
    case RankKind::kNotSketched:
      return "not_sketched";
    case RankKind::kWithinRounding:
      return "within_rounding";
    case RankKind::kLow:
      return "low";
    case RankKind::kSparse:
      return "sparse";
    case RankKind::kFull:
      return "full";
  }
  SLUICE_CHECK(false);
}

double NoiseEdge(double mean, double mean_square, uint64_t count, double margin) {
  if (!(mean > 0)) return 0;
  const double c = mean_square / (mean * mean) - 1;  // Marchenko and Pastur's ratio, from the moments
  if (!(c > 0)) return mean;
  const double root = std::sqrt(c), p = static_cast<double>(count) / c;
  return mean * (1 + root) * (1 + root + margin * std::cbrt(1 + 1 / root) / std::cbrt(p * p));
}

uint64_t CountAboveNoise(std::span<const double> eigenvalues, double margin) {
  const uint64_t count = eigenvalues.size();
  double sum = 0, squares = 0;
  const auto add = [&](double value) {
    sum += value;
    squares += value * value;
  };
  uint64_t above = count / 2;
  for (uint64_t i = above; i < count; ++i) add(eigenvalues[i]);
  // What is below tells where noise would end; the next is noise too if it is not beyond. If it is noise, it is the
  // largest, without which the moments would be too small: so it counts, but as no more than noise's largest would be.
  for (; above > 0; --above) {
    const double next = eigenvalues[above - 1];
    const uint64_t taken = count - above + 1;
    double capped = 0;
    const auto edge_with = [&](double largest, double at_margin) {
      const auto n = static_cast<double>(taken);
      return NoiseEdge((sum + largest) / n, (squares + largest * largest) / n, taken, at_margin);
    };
    for (int i = 0; i < kRoundsOfCapping; ++i) capped = std::min(next, edge_with(capped, 0));
    if (next > kRoundOff * eigenvalues[0] && next > edge_with(capped, margin)) break;
    add(next);
  }
  return above;
}

void SymmetricEigenvalues(std::span<const double> gram, uint64_t width, std::span<double> eigenvalues) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  SLUICE_CHECK(gram.size() == width * width && eigenvalues.size() == width);
  // Eigen would ask the processor, and the order of its sums would follow.
  Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
  const auto size = static_cast<Eigen::Index>(width);
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(Eigen::Map<const Matrix>(gram.data(), size, size),
                                                     Eigen::EigenvaluesOnly);
  for (uint64_t i = 0; i < width; ++i) {
    eigenvalues[i] = std::max(0.0, solver.eigenvalues()(static_cast<Eigen::Index>(width - 1 - i)));
  }
}

EffectiveRank RankOf(const RankEvidence& evidence) {
  EffectiveRank result;
  const uint64_t count = std::min(evidence.rows, evidence.columns), larger = std::max(evidence.rows, evidence.columns);
  SLUICE_CHECK(count <= evidence.eigenvalues.size());
  std::vector<double> eigenvalues(evidence.eigenvalues.begin(), evidence.eigenvalues.end());
  std::ranges::sort(eigenvalues, std::greater<>());
  eigenvalues.resize(count);
  result.most = count / 2;
  const uint64_t above = CountAboveNoise(eigenvalues, kNoiseMargin), num_left = count - above;
  double tail = 0, squares = 0;
  for (uint64_t i = above; i < count; ++i) {
    tail += eigenvalues[i];
    squares += eigenvalues[i] * eigenvalues[i];
  }
  // Of noise of variance v in a sketch of rows' x left numbers: rows' is what the moments say it is.
  const auto left = static_cast<double>(num_left);
  const double mean = tail / left, ratio = mean > 0 ? squares / left / (mean * mean) - 1 : 0;
  const double v = mean * ratio / left, rows = ratio > 0 ? left / ratio : 0;
  const auto singular_square = [&](double eigenvalue) {  // Baik and Silverstein's spike that gives the eigenvalue
    const double b = eigenvalue - (rows + left) * v, root = b * b - 4 * rows * left * v * v;
    return (std::max(b, 0.0) + std::sqrt(std::max(root, 0.0))) / 2;
  };
  // Rounding makes weak directions of strong ones.
  const double unchanged = 1 - evidence.changed_share;
  const double least = unchanged * unchanged * kHarmonics * (above > 0 ? singular_square(eigenvalues[0]) : 0);
  result.rank = above;
  while (result.rank > 0 && singular_square(eigenvalues[result.rank - 1]) < least) --result.rank;

  double signal = 0, rest = 0;
  for (uint64_t i = 0; i < result.rank; ++i) signal += singular_square(eigenvalues[i]);
  for (uint64_t i = result.rank; i < count; ++i) rest += eigenvalues[i];
  const auto q = static_cast<double>(count), p = static_cast<double>(larger), r = static_cast<double>(result.rank);
  const double residual = rest * (p / (p - r)) * (q / (q - r));
  result.explained = signal + residual > 0 ? signal / (signal + residual) : 0;
  const double edge = singular_square(NoiseEdge(mean, squares / left, num_left, kNoiseMargin));
  result.least_singular = std::sqrt(std::max(edge, least));
  if (evidence.squared_ulps > 0) result.residual_ulps = std::sqrt(residual / evidence.squared_ulps);
  // |S|^2 has a relative deviation of sqrt(2 / (rows columns)) at most; five of them.
  const double bound = evidence.squared_ulps / 4 * (1 + 5 * std::sqrt(2 / (p * q)));
  if (above >= result.most || residual > bound) {
    result.kind = RankKind::kFull;
  } else if (result.rank == 0) {
    result.kind = RankKind::kWithinRounding;
  } else {
    // Of a matrix of rank r of which a share g survives rounding each direction has g^2 / r of its squares, and its
    // losses are noise whose largest direction has (1 - g) g / min(n, m): of fewer elements no such matrix stands out.
    const double seen = evidence.changed_share * static_cast<double>(evidence.least_dimension);
    result.kind = seen > static_cast<double>(result.rank) ? RankKind::kLow : RankKind::kSparse;
  }
  return result;
}

}  // namespace sluice::verify
