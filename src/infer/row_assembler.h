// RowAssembler: the rows of a matrix as one pointer each, from the tiles in which a stream hands it out.
//
// Tiles may be cut anywhere (where facts are folded they know nothing of rows): a row that lies across a cut is copied
// together, every other stays where it is. Memory: 8 bytes a row, and a row for each cut that does not fall between
// two.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "graph/node.h"
#include "quant/encoding.h"

namespace sluice::infer {

class RowAssembler {
 public:
  RowAssembler(quant::Encoding encoding, uint64_t num_rows, uint64_t columns);

  // The next elements, in order and without gaps. `view.data` must stay valid for as long as rows() is used.
  void Add(const graph::View& view);
  bool complete() const { return next_element_ == num_elements_; }
  // Those complete so far, in order.
  std::span<const uint8_t* const> rows() const { return rows_; }
  uint64_t columns() const { return columns_; }
  quant::Encoding encoding() const { return encoding_; }

 private:
  quant::Encoding encoding_;
  uint64_t columns_, num_elements_;
  uint64_t next_element_ = 0;
  std::vector<const uint8_t*> rows_;
  std::vector<std::unique_ptr<uint8_t[]>> copied_rows_;  // the last may be under way
};

}  // namespace sluice::infer
