#include "infer/row_assembler.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace sluice::infer {

RowAssembler::RowAssembler(quant::Encoding encoding, uint64_t num_rows, uint64_t columns)
    : encoding_(encoding), columns_(columns), num_elements_(num_rows * columns) {
  SLUICE_CHECK(columns > 0 && columns % encoding->block_elements == 0);
  rows_.reserve(num_rows);
}

void RowAssembler::Add(const graph::View& view) {
  SLUICE_CHECK(view.range.begin == next_element_ && view.range.end <= num_elements_);
  const uint8_t* data = view.data;
  for (uint64_t at = view.range.begin; at < view.range.end;) {
    const uint64_t column = at % columns_, length = std::min(columns_ - column, view.range.end - at);
    const uint64_t size_bytes = encoding_.BytesOf(length);
    if (length == columns_) {
      rows_.push_back(data);
    } else {
      if (column == 0) copied_rows_.push_back(std::make_unique_for_overwrite<uint8_t[]>(encoding_.BytesOf(columns_)));
      std::memcpy(copied_rows_.back().get() + encoding_.BytesOf(column), data, size_bytes);
      if (column + length == columns_) rows_.push_back(copied_rows_.back().get());
    }
    data += size_bytes;
    at += length;
  }
  next_element_ = view.range.end;
}

}  // namespace sluice::infer
