#include "merge/randomised_svd.h"

#include <algorithm>
#include <cmath>

#define EIGEN_DONT_PARALLELIZE
#include <eigen3/Eigen/Core>
#include <eigen3/Eigen/QR>
#include <eigen3/Eigen/SVD>

#include "arithmetic/plain_math.h"
#include "base/check.h"
#include "base/units.h"
#include "kernels/narrow_product.h"

namespace sluice::merge {
namespace {

constexpr uint64_t kOversampling = 8;
constexpr uint64_t kPanelBytes = 2 * kMiB;
constexpr uint64_t kMinPanelRows = 4, kMaxPanelRows = 256;  // the kernel takes four rows at a time

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Ref<RowMatrix, 0, Eigen::OuterStride<>>;
using RowsMap = Eigen::Map<RowMatrix, 0, Eigen::OuterStride<>>;

RowsMap MapOf(std::vector<double>& values, uint64_t rows, uint64_t columns, uint64_t stride) {
  return {values.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns),
          Eigen::OuterStride<>(static_cast<Eigen::Index>(stride))};
}

uint64_t PanelRows(const SvdShape& shape) {
  const uint64_t fitting = kPanelBytes / (shape.columns * sizeof(double));
  return std::min(std::clamp(fitting / kMinPanelRows * kMinPanelRows, kMinPanelRows, kMaxPanelRows), shape.rows);
}

// Box and Muller's, of the words of one counter.
double Normal(PhiloxKey key, uint64_t index) {
  constexpr double kTwoPi = 6.283185307179586;
  const auto words = Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0}, key);
  const double radius = (static_cast<double>(words[0]) + 0.5) * 0x1p-32;
  const double angle = static_cast<double>(words[1]) * 0x1p-32;
  return std::sqrt(-2 * arithmetic::PlainLog(radius)) * arithmetic::PlainCos(kTwoPi * angle);
}

}  // namespace

uint64_t SvdShape::width() const {
  return std::min({RoundUp(rank + kOversampling, kernels::kNarrowColumns), rows, columns});
}
uint64_t SvdShape::stride() const { return RoundUp(width(), kernels::kNarrowColumns); }

uint64_t RandomisedSvd::MemoryBytes(const SvdShape& shape) {
  const uint64_t tall = shape.columns + std::max(shape.rows, shape.columns) + shape.rows + PanelRows(shape);
  const uint64_t small =
      16 * shape.width() * shape.width() + 256 * shape.width();  // R, its factors, Eigen's work space
  return (tall * shape.stride() + PanelRows(shape) * shape.columns + small) * sizeof(double);
}

void RandomisedSvd::Begin(const SvdShape& shape, PhiloxKey key) {
  SLUICE_CHECK(shape.rank > 0 && shape.rank <= std::min(shape.rows, shape.columns));
  // Eigen would ask the processor, and the order of its sums would follow.
  Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
  shape_ = shape;
  pass_ = 0;
  row_ = panel_filled_ = 0;
  panel_rows_ = PanelRows(shape);
  const uint64_t stride = shape.stride();
  // Exactly so large: a matrix that is smaller than the one before gives memory back.
  const auto make = [](std::vector<double>* values, uint64_t size) {
    std::vector<double>().swap(*values);
    values->assign(size, 0);
  };
  make(&panel_, panel_rows_ * shape.columns);
  make(&products_, panel_rows_ * stride);
  make(&basis_, shape.columns * stride);
  make(&work_, std::max(shape.rows, shape.columns) * stride);
  make(&left_, shape.rows * stride);
  for (uint64_t column = 0; column < shape.columns; ++column) {
    for (uint64_t i = 0; i < shape.width(); ++i) {
      basis_[column * stride + i] = Normal(key, column * shape.width() + i);
    }
  }
}

void RandomisedSvd::Add(std::span<const float> elements, const ForEach& for_each) {
  while (!elements.empty()) {
    const uint64_t count = std::min<uint64_t>(elements.size(), panel_.size() - panel_filled_);
    std::copy_n(elements.begin(), count, panel_.begin() + static_cast<int64_t>(panel_filled_));
    panel_filled_ += count;
    elements = elements.subspan(count);
    if (panel_filled_ == panel_.size()) MultiplyPanel(for_each);
  }
}

void RandomisedSvd::EndPass(const ForEach& for_each) {
  if (panel_filled_ > 0) MultiplyPanel(for_each);
  SLUICE_CHECK(row_ == shape_.rows && pass_ < kPasses);
  row_ = 0;
  if (++pass_ == kPasses) return Finish();
  Orthonormalise();
  std::fill(work_.begin(), work_.end(), 0);
}

void RandomisedSvd::ForParts(uint64_t size, const ForEach& for_each,
                             const std::function<void(uint64_t, uint64_t)>& body) const {
  const uint64_t part = RoundUp(CeilDiv(size, num_tasks_), kMinPanelRows);
  for_each(CeilDiv(size, part), [&](uint64_t i) { body(i * part, std::min((i + 1) * part, size)); });
}

void RandomisedSvd::MultiplyPanel(const ForEach& for_each) {
  SLUICE_CHECK(panel_filled_ % shape_.columns == 0);
  const uint64_t rows = panel_filled_ / shape_.columns, columns = shape_.columns, stride = shape_.stride();
  SLUICE_CHECK(row_ + rows <= shape_.rows);
  const bool is_last = pass_ + 1 == kPasses;
  double* const products = is_last ? work_.data() + row_ * stride : products_.data();
  if (!is_last) std::fill(products_.begin(), products_.end(), 0);
  ForParts(rows, for_each, [&](uint64_t begin, uint64_t end) {
    kernels::AddNarrowProduct({.left = panel_.data() + begin * columns,
                               .row_stride = columns,
                               .term_stride = 1,
                               .right = basis_.data(),
                               .rows = end - begin,
                               .terms = columns,
                               .columns = stride,
                               .out = products + begin * stride});
  });
  if (!is_last) {
    ForParts(columns, for_each, [&](uint64_t begin, uint64_t end) {
      kernels::AddNarrowProduct({.left = panel_.data() + begin,
                                 .row_stride = 1,
                                 .term_stride = columns,
                                 .right = products,
                                 .rows = end - begin,
                                 .terms = rows,
                                 .columns = stride,
                                 .out = work_.data() + begin * stride});
    });
  }
  row_ += rows;
  panel_filled_ = 0;
}

void RandomisedSvd::Orthonormalise() {
  RowsMap basis = MapOf(basis_, shape_.columns, shape_.width(), shape_.stride());
  Rows span = MapOf(work_, shape_.columns, shape_.width(), shape_.stride());
  const Eigen::HouseholderQR<Rows> qr(span);  // in place
  basis.setIdentity();
  basis.applyOnTheLeft(qr.householderQ());
}

void RandomisedSvd::Finish() {
  const auto width = static_cast<Eigen::Index>(shape_.width()), rank = static_cast<Eigen::Index>(shape_.rank);
  Rows product = MapOf(work_, shape_.rows, shape_.width(), shape_.stride());
  const Eigen::HouseholderQR<Rows> qr(product);
  const Matrix r = qr.matrixQR().topRows(width).triangularView<Eigen::Upper>();
  const Eigen::BDCSVD<Matrix> svd(r, Eigen::ComputeFullU | Eigen::ComputeFullV);
  const Eigen::VectorXd roots = svd.singularValues().head(rank).cwiseSqrt();
  singular_values_.assign(svd.singularValues().data(), svd.singularValues().data() + rank);

  RowsMap left = MapOf(left_, shape_.rows, shape_.rank, shape_.stride());
  left.setZero();
  left.topRows(width) = svd.matrixU().leftCols(rank) * roots.asDiagonal();
  left.applyOnTheLeft(qr.householderQ());
  const Matrix turn = svd.matrixV().leftCols(rank) * roots.asDiagonal();
  MapOf(work_, shape_.columns, shape_.rank, shape_.stride()).noalias() =
      MapOf(basis_, shape_.columns, shape_.width(), shape_.stride()) * turn;
}

}  // namespace sluice::merge
