// RowSlots: room for what a fold sums up by rows of a tensor, so that the order in which blocks come does not matter. A
// row within one block has a slot of its own; a row over several blocks has one in each, added up in order in the end.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/node.h"

namespace sluice::arithmetic {

class RowSlots {
 public:
  // Rows of `columns` elements (0 where there are none: one row, without parts); `width` numbers in a slot.
  RowSlots(uint64_t num_elements, uint64_t columns, size_t width)
      : columns_(columns), width_(width), rows_(NumRows(num_elements, columns) * width) {
    const uint64_t blocks = Blocks(num_elements);
    heads_.resize(blocks * width);
    tails_.resize(blocks * width);
  }
  static uint64_t NumRows(uint64_t num_elements, uint64_t columns) { return columns == 0 ? 1 : num_elements / columns; }
  static uint64_t Bytes(uint64_t num_elements, uint64_t columns, size_t width) {
    return (NumRows(num_elements, columns) + 2 * Blocks(num_elements)) * width * sizeof(double);
  }
  uint64_t num_rows() const { return rows_.size() / width_; }

  // The slot of the part of a row and a block that ends before element `end`. Thread-safe: each is one worker's.
  double* SlotOf(uint64_t end) {
    const uint64_t row = (end - 1) / columns_, block = (end - 1) / graph::kBlockElements;
    if (row * columns_ < block * graph::kBlockElements) return &heads_[block * width_];
    if (end == (row + 1) * columns_) return &rows_[row * width_];
    return &tails_[block * width_];
  }
  // The slots of a row's parts in order, the first of them given apart: body(slot, is_first).
  template <class Body>
  void ForParts(uint64_t row, const Body& body) const {
    const uint64_t begin = row * columns_, end = begin + columns_;
    const uint64_t first = begin / graph::kBlockElements;
    const uint64_t last = end == begin ? first : (end - 1) / graph::kBlockElements;
    body(first == last ? &rows_[row * width_] : &tails_[first * width_], true);
    for (uint64_t block = first + 1; block <= last; ++block) body(&heads_[block * width_], false);
  }

 private:
  static uint64_t Blocks(uint64_t num_elements) {
    return (num_elements + graph::kBlockElements - 1) / graph::kBlockElements;
  }

  uint64_t columns_;
  size_t width_;
  std::vector<double> rows_, heads_, tails_;  // [.., width]; heads of rows that began before the block
};

}  // namespace sluice::arithmetic
