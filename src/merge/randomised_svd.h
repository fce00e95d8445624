// RandomisedSvd: the first singular triplets of a matrix D that is never in memory whole: its rows go by, four times.
//
// Formulas: Halko, Martinsson, Tropp, "Finding structure with randomness", SIAM Review 53 (2011), sections 4.3 to 5.1,
// on D's row space. With a Gaussian test matrix V [columns, k], k the first multiple of 8 from rank + 8 on,
//
//   passes 1 to 3   V <- orthonormal basis of D^T (D V)   (one pass: a row of D V is known when the row has gone by)
//   pass 4          Y = D V = Q R,  R = U S W^T,  D ~ (Q U) S (V W)^T, cut after `rank`
//
// so that V is that of three steps of power iteration on D^T D. The error is within 1% of the best that the rank can do
// also where singular values hardly fall (noise: 0.4 to 0.8% measured; two steps left 1.3%). Where k reaches the
// smaller dimension the result is D's own SVD.
//
// The error is known without another pass: (V W) is orthonormal, so that in Frobenius' norm, to some 1e-8 of |D|,
//
//   |D - D_r|^2 = |D|^2 - sum of S_i^2
//
// All of it is f64. Sums over rows and columns run in the order of their indices (kernels/narrow_product.h), QR and the
// SVD of R on one thread in Eigen, whose block sizes are fixed here: the bits depend on D, the shape and the key alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/counter_rng.h"

namespace sluice::merge {

struct SvdShape {
  uint64_t rows = 0, columns = 0;
  uint64_t rank = 0;  // at least 1, at most the smaller dimension

  uint64_t width() const;   // k: of V, Y
  uint64_t stride() const;  // numbers from row to row of either
};

// Not thread-safe; usable for one matrix after the other.
class RandomisedSvd {
 public:
  static constexpr int kPasses = 4;
  // Most that is held for a matrix of this shape: (rows + columns + the larger of them) stride() 8 bytes, a panel of
  // some 2 MiB of rows, and what Eigen takes for R.
  static uint64_t MemoryBytes(const SvdShape& shape);

  // Calls body(i) for each i below `count`, in any order or at once, and returns when all have been.
  using ForEach = std::function<void(uint64_t count, const std::function<void(uint64_t)>& body)>;
  // num_tasks: what the work on a panel is divided into.
  explicit RandomisedSvd(uint64_t num_tasks) : num_tasks_(num_tasks) {}

  void Begin(const SvdShape& shape, PhiloxKey key);
  // The next elements of D, row after row, cut anywhere. Finite.
  void Add(std::span<const float> elements, const ForEach& for_each);
  // After D's last element, kPasses times.
  void EndPass(const ForEach& for_each);

  // After the last pass: D ~ left right^T with the roots of the singular values on either side.
  std::span<const double> singular_values() const { return singular_values_; }                     // [rank], descending
  double left(uint64_t row, uint64_t i) const { return left_[row * shape_.stride() + i]; }         // [rows, rank]
  double right(uint64_t column, uint64_t i) const { return work_[column * shape_.stride() + i]; }  // [columns, rank]

 private:
  void MultiplyPanel(const ForEach& for_each);
  void ForParts(uint64_t size, const ForEach& for_each, const std::function<void(uint64_t, uint64_t)>& body) const;
  void Orthonormalise();
  void Finish();

  const uint64_t num_tasks_;
  SvdShape shape_;
  int pass_ = 0;
  uint64_t panel_rows_ = 0;
  uint64_t panel_filled_ = 0;     // elements of the panel that are there
  uint64_t row_ = 0;              // the panel's first
  std::vector<double> panel_;     // [panel_rows][columns]
  std::vector<double> products_;  // [panel_rows][stride]: D V of them
  std::vector<double> basis_;     // V [columns][stride]
  std::vector<double> work_;      // D^T D V [columns][stride]; Y [rows][stride]; in the end the right factor
  std::vector<double> left_;      // [rows][stride]
  std::vector<double> singular_values_;
};

}  // namespace sluice::merge
