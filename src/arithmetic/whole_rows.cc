#include "arithmetic/whole_rows.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace sluice::arithmetic {

using graph::kBlockElements;

WholeRows::WholeRows(uint64_t num_elements, uint64_t columns, size_t num_inputs, int num_workers)
    : columns_(columns), num_inputs_(num_inputs), workers_(static_cast<size_t>(num_workers)) {
  SLUICE_CHECK(columns > 0 || num_elements == 0);
  if (columns > kBlockElements) return;  // no row lies within a block
  for (Row& row : workers_) row.values.resize(num_inputs * columns);
}

uint64_t WholeRows::StateBytes(uint64_t num_elements, uint64_t columns, size_t num_inputs, int num_workers) {
  if (num_elements == 0) return sizeof(WholeRows);
  const auto workers = static_cast<uint64_t>(num_workers);
  const uint64_t rows = num_elements / columns;
  const uint64_t over_blocks = kBlockElements % columns == 0 ? 0 : std::min(rows, 2 * workers + 64);
  return sizeof(WholeRows) + (workers + over_blocks) * (num_inputs * columns * sizeof(float) + sizeof(Row) + 64);
}

void WholeRows::Add(int worker, graph::Range piece, std::span<const graph::View> in, const Each& each) {
  for (uint64_t at = piece.begin; at < piece.end;) {
    const uint64_t index = at / columns_, row_begin = index * columns_, row_end = row_begin + columns_;
    const uint64_t end = std::min(piece.end, row_end);
    const bool in_one_block = row_begin / kBlockElements == (row_end - 1) / kBlockElements;
    Row* row = &workers_[static_cast<size_t>(worker)];
    if (in_one_block) {
      if (at == row_begin) row->filled = 0;
      SLUICE_CHECK(row->filled == at - row_begin);
    } else {
      std::lock_guard lock(mutex_);
      row = &incomplete_[index];
      if (row->values.empty()) row->values.resize(num_inputs_ * columns_);
    }
    for (size_t i = 0; i < num_inputs_; ++i) {
      std::memcpy(&row->values[i * columns_ + (at - row_begin)], in[i].data + (at - piece.begin) * sizeof(float),
                  (end - at) * sizeof(float));
    }
    if (in_one_block) {
      row->filled += end - at;
      if (end == row_end) Give(index, *row, each);
    } else {
      std::map<uint64_t, Row>::node_type whole;
      {
        std::lock_guard lock(mutex_);
        row->filled += end - at;
        if (row->filled == columns_) whole = incomplete_.extract(index);
      }
      if (whole) Give(index, whole.mapped(), each);
    }
    at = end;
  }
}

void WholeRows::Give(uint64_t row, const Row& whole, const Each& each) const {
  std::vector<const float*> inputs;
  for (size_t i = 0; i < num_inputs_; ++i) inputs.push_back(&whole.values[i * columns_]);
  each(row, inputs);
}

}  // namespace sluice::arithmetic
