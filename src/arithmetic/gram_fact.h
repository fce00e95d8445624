// GramFact: the inner products of a tensor's inputs with each other, and the factors of a linear combination of the
// inputs that a method makes of them. slerp, nuslerp, multislerp, model_stock and karcher are such combinations.
//
// The vectors are the inputs x_m, or their differences x_m - b from a base: the whole tensor as one vector, each of its
// rows, or each of its columns. Differences, products and sums are f64: 8 lanes by the element's index, blocks of
// 65,536 elements added in their order (columns: as a binary tree over the blocks), so neither cuts nor workers matter.
//
// Value: [model][vector] factors. Memory: the value; rows: as much as their inner products (8 bytes for each pair of
// inputs and row); columns: the inner products of some blocks under way.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "graph/node.h"

namespace sluice::arithmetic {

// What is one vector of a tensor. A row is what lies along the last dimension; a tensor of one dimension is one row,
// and one column.
struct Vectors {
  enum class Kind { kWhole, kRows, kColumns };
  Kind kind = Kind::kWhole;
  uint64_t columns = 0;  // length of a row

  static Vectors Whole(uint64_t num_elements) { return {Kind::kWhole, num_elements}; }
  static Vectors Rows(std::span<const uint64_t> shape);
  static Vectors Columns(std::span<const uint64_t> shape);  // of a tensor of one dimension: kWhole
  uint64_t Count(uint64_t num_elements) const;
};

// Inner products of k vectors, [k, k].
class Gram {
 public:
  Gram(size_t size, const double* values) : size_(size), values_(values) {}
  size_t size() const { return size_; }
  double operator()(size_t i, size_t j) const { return values_[i * size_ + j]; }
  double Norm(size_t i) const;

 private:
  size_t size_;
  const double* values_;
};

// The factors of the combination, of plain_math's functions where it needs any. Called in any order, pure.
struct Combination {
  std::string description;  // tells it from any other
  std::function<void(const Gram& gram, std::span<double> factors)> factors;
};

class GramFact final : public graph::Fact {
 public:
  // base: F32, or null. x: F32.
  GramFact(const graph::Node* base, const std::vector<const graph::Node*>& x, const Vectors& vectors,
           Combination combination);
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override;
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  size_t num_vectors() const { return inputs().size() - (has_base_ ? 1 : 0); }

  bool has_base_;
  Vectors vectors_;
  Combination combination_;
};

}  // namespace sluice::arithmetic
