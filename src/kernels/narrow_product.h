// Products with a matrix of few columns, in f64: what randomised SVD does with a large matrix.
//
//   out[r][c] += sum_t left(r, t) * right[t][c],   left(r, t) = left[r * row_stride + t * term_stride]
//
// Each number begins with what stands in `out` and takes its terms one by one, t ascending; product and sum are rounded
// apart, never fused. So a number depends on its own row and column alone, and a sum may be cut anywhere and gone on
// with: any division gives the same bits, and so does every target of Highway's that it is dispatched over.
// Thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

constexpr uint64_t kNarrowColumns = 8;  // the number of columns is a multiple of this

struct NarrowProductArgs {
  const double* left = nullptr;
  uint64_t row_stride = 0, term_stride = 0;
  const double* right = nullptr;  // [terms][columns]
  uint64_t rows = 0, terms = 0, columns = 0;
  double* out = nullptr;  // [rows][columns]; not `right`
};

void AddNarrowProduct(const NarrowProductArgs& args);

namespace reference {
void AddNarrowProduct(const NarrowProductArgs& args);
}  // namespace reference
}  // namespace sluice::kernels
