// Rows [first, first + count) of a matrix.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace sluice::graph {

class RowRange final : public RowMap {
 public:
  RowRange(uint64_t first, uint64_t count) : first_(first), count_(count) {}
  uint64_t SourceRow(uint64_t row) const override { return first_ + row; }
  uint64_t num_rows() const override { return count_; }

 private:
  uint64_t first_, count_;
};

}  // namespace sluice::graph
