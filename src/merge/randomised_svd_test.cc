#include "merge/randomised_svd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include <eigen3/Eigen/Core>
#include <eigen3/Eigen/SVD>

namespace sluice::merge {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix Gaussian(uint64_t rows, uint64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix m(rows, columns);
  for (Eigen::Index i = 0; i < m.size(); ++i) m.data()[i] = normal(random);
  return m;
}

// As it passes through a stream: f32.
std::vector<float> Floats(const Matrix& m) { return {m.data(), m.data() + m.size()}; }

void Serial(uint64_t count, const std::function<void(uint64_t)>& body) {
  for (uint64_t i = count; i > 0; --i) body(i - 1);
}
void AtOnce(uint64_t count, const std::function<void(uint64_t)>& body) {
  std::vector<std::jthread> threads;
  for (uint64_t i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); });
}

void Decompose(const std::vector<float>& d, const SvdShape& shape, uint64_t cut, const RandomisedSvd::ForEach& for_each,
               RandomisedSvd* svd) {
  svd->Begin(shape, {1, 2});
  for (int pass = 0; pass < RandomisedSvd::kPasses; ++pass) {
    for (uint64_t at = 0; at < d.size(); at += cut) {
      svd->Add(std::span(d).subspan(at, std::min<uint64_t>(cut, d.size() - at)), for_each);
    }
    svd->EndPass(for_each);
  }
}

Matrix ProductOf(const RandomisedSvd& svd, const SvdShape& shape) {
  Matrix product = Matrix::Zero(shape.rows, shape.columns);
  for (uint64_t row = 0; row < shape.rows; ++row) {
    for (uint64_t column = 0; column < shape.columns; ++column) {
      for (uint64_t i = 0; i < shape.rank; ++i) product(row, column) += svd.left(row, i) * svd.right(column, i);
    }
  }
  return product;
}

TEST(RandomisedSvd, AMatrixOfThatRankComesBack) {
  for (const auto& [rows, columns] : {std::pair<uint64_t, uint64_t>{300, 70}, {70, 300}, {1200, 20}}) {
    const Matrix d = Gaussian(rows, 4, 1) * Gaussian(4, columns, 2);
    const SvdShape shape{rows, columns, 4};
    RandomisedSvd svd(3);
    Decompose(Floats(d), shape, 1000, Serial, &svd);
    // What f32 took of it, and nothing more: a rounding of each number, 2^-24 of it at most.
    EXPECT_LE((ProductOf(svd, shape) - d).norm(), 0x1p-24 * d.norm());
  }
}

// Singular values that fall slowly, as those of a full fine-tune do: within 1% of the best that rank can do, and the
// error that the singular values tell is the error.
TEST(RandomisedSvd, NearlyTheBestOfItsRank) {
  const Matrix noise = Gaussian(192, 400, 3);
  for (const auto& [d, rank] : {std::pair<Matrix, uint64_t>{Gaussian(192, 12, 4) * Gaussian(12, 400, 5) + noise * 3, 1},
                                {Gaussian(192, 12, 4) * Gaussian(12, 400, 5) + noise, 4},
                                {Gaussian(192, 12, 4) * Gaussian(12, 400, 5) + noise * 3, 16},
                                {noise, 4},
                                {noise, 16}}) {
    const SvdShape shape{192, 400, rank};
    RandomisedSvd svd(2);
    Decompose(Floats(d), shape, 777, Serial, &svd);
    const Eigen::VectorXd all = Eigen::JacobiSVD<Matrix>(d).singularValues();
    const double best = all.tail(all.size() - static_cast<Eigen::Index>(rank)).norm();
    const double error = (d - ProductOf(svd, shape)).norm();
    EXPECT_LE(error, 1.01 * best) << rank;
    EXPECT_GE(error, best * (1 - 1e-6)) << rank;
    double energy = 0;
    for (const double s : svd.singular_values()) energy += s * s;
    EXPECT_NEAR(std::sqrt(d.squaredNorm() - energy) / error, 1, 1e-6) << rank;
  }
}

TEST(RandomisedSvd, WholeRankIsTheSvdItself) {
  const Matrix d = Gaussian(40, 9, 6);
  const SvdShape shape{40, 9, 9};
  RandomisedSvd svd(1);
  Decompose(Floats(d), shape, 41, Serial, &svd);
  const Eigen::VectorXd all = Eigen::JacobiSVD<Matrix>(d).singularValues();
  for (uint64_t i = 0; i < 9; ++i)
    EXPECT_NEAR(svd.singular_values()[i], all(static_cast<Eigen::Index>(i)), 1e-6 * all(0));
}

TEST(RandomisedSvd, AMatrixOfLessRankThanAskedAndOneOfZeros) {
  const SvdShape shape{50, 60, 8};
  RandomisedSvd svd(2);
  const Matrix d = Gaussian(50, 1, 7) * Gaussian(1, 60, 8);
  Decompose(Floats(d), shape, 500, Serial, &svd);
  EXPECT_LE((ProductOf(svd, shape) - d).norm(), 0x1p-24 * d.norm());
  EXPECT_LE(svd.singular_values()[1], 1e-6 * svd.singular_values()[0]);
  Decompose(std::vector<float>(50 * 60), shape, 500, Serial, &svd);
  EXPECT_EQ(ProductOf(svd, shape).norm(), 0);
}

TEST(RandomisedSvd, TheSameBitsHoweverItIsCutAndDivided) {
  const Matrix d = Gaussian(611, 523, 9);  // more than one panel
  const SvdShape shape{611, 523, 5};
  RandomisedSvd first(1);
  Decompose(Floats(d), shape, 1 << 20, Serial, &first);
  for (const auto& [tasks, cut] : {std::pair<uint64_t, uint64_t>{2, 1000}, {7, 65536}, {64, 12345}}) {
    RandomisedSvd other(tasks);
    Decompose(Floats(d), shape, cut, AtOnce, &other);
    for (uint64_t i = 0; i < shape.rank; ++i) {
      ASSERT_EQ(other.singular_values()[i], first.singular_values()[i]);
      for (uint64_t row = 0; row < shape.rows; ++row) ASSERT_EQ(other.left(row, i), first.left(row, i));
      for (uint64_t column = 0; column < shape.columns; ++column) {
        ASSERT_EQ(other.right(column, i), first.right(column, i));
      }
    }
  }
}

}  // namespace
}  // namespace sluice::merge
