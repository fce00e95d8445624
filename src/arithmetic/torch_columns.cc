#include "arithmetic/torch_columns.h"

#include <algorithm>
#include <bit>

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kLevels = 4;

// Columns of whole groups of four vectors; a matrix of less than a vector has groups of four columns.
uint64_t ColumnsInRows(uint64_t num_columns, uint64_t lanes) {
  const uint64_t group = num_columns >= lanes ? 4 * lanes : 4;
  return num_columns / group * group;
}

}  // namespace

TorchColumnSums::Cascade::Cascade(uint64_t num_rows, uint64_t num_columns)
    : columns(num_columns),
      power(std::max<uint64_t>(4, (num_rows <= 1 ? 0 : static_cast<uint64_t>(std::bit_width(num_rows - 1))) / 4)),
      at(kLevels * num_columns) {}

void TorchColumnSums::Cascade::Carry(uint64_t rows) {
  const uint64_t mask = (uint64_t{1} << power) - 1;
  for (uint64_t level = 1; level < kLevels; ++level) {
    if ((rows >> ((level - 1) * power) & mask) != 0) return;
    for (uint64_t c = 0; c < columns; ++c) {
      at[level * columns + c] += at[(level - 1) * columns + c];
      at[(level - 1) * columns + c] = 0;
    }
  }
}

float TorchColumnSums::Cascade::Sum(uint64_t column) const {
  float sum = at[column];
  for (uint64_t level = 1; level < kLevels; ++level) sum += at[level * columns + column];
  return sum;
}

TorchColumnSums::TorchColumnSums(uint64_t num_rows, uint64_t num_columns, uint64_t lanes)
    : num_rows_(num_rows),
      num_columns_(num_columns),
      in_rows_(ColumnsInRows(num_columns, lanes)),
      rows_(num_rows, in_rows_),
      fours_(num_rows / 4, 4 * (num_columns - in_rows_)),
      rest_(num_columns - in_rows_) {}

void TorchColumnSums::Add(uint64_t begin, const float* values, uint64_t count) {
  const uint64_t left = num_columns_ - in_rows_, whole_fours = num_rows_ / 4 * 4;
  for (uint64_t at = begin; at < begin + count;) {
    const uint64_t row = at / num_columns_, first = at % num_columns_;
    const uint64_t end = std::min(num_columns_, first + (begin + count - at));
    const float* of_row = values + (at - begin) - first;
    float* sums = rows_.at.data();
    for (uint64_t c = first; c < std::min(end, in_rows_); ++c) sums[c] += of_row[c];
    for (uint64_t c = std::max(first, in_rows_); c < end; ++c) {
      if (row < whole_fours) {
        fours_.AddTo(0, row % 4 * left + (c - in_rows_), of_row[c]);
      } else {
        // The first partial is complete by now; levels above the lowest are added first.
        const uint64_t column = c - in_rows_;
        if (row == whole_fours) rest_[column] = fours_.Sum(column);
        rest_[column] += of_row[c];
      }
    }
    if (end == num_columns_) {
      rows_.Carry(row + 1);
      if (row < whole_fours && row % 4 == 3) fours_.Carry((row + 1) / 4);
    }
    at += end - first;
  }
}

std::vector<float> TorchColumnSums::Finish() {
  std::vector<float> sums(num_columns_);
  for (uint64_t c = 0; c < in_rows_; ++c) sums[c] = rows_.Sum(c);
  const uint64_t left = num_columns_ - in_rows_;
  for (uint64_t c = 0; c < left; ++c) {
    float sum = num_rows_ % 4 == 0 ? fours_.Sum(c) : rest_[c];
    for (uint64_t partial = 1; partial < 4; ++partial) sum += fours_.Sum(partial * left + c);
    sums[in_rows_ + c] = sum;
  }
  return sums;
}

}  // namespace sluice::arithmetic
