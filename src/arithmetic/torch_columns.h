// torch.sum along the first dimension of a matrix: its columns, in the order in which torch adds rows on a CPU with
// 256-bit vectors (torch_sum.h has the sums of a whole tensor and over few models). Rows are given in order.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::arithmetic {

class TorchColumnSums {
 public:
  // lanes: 8 (f32) or 16 (bf16, f16).
  TorchColumnSums(uint64_t num_rows, uint64_t num_columns, uint64_t lanes);
  // Elements [begin, begin + count) of the matrix, which follow the last ones.
  void Add(uint64_t begin, const float* values, uint64_t count);
  // After all rows, not rounded: by column.
  std::vector<float> Finish();
  static uint64_t StateBytes(uint64_t num_columns) { return num_columns * (4 * 4 + 4) * sizeof(float) + 1024; }

 private:
  // Rows in blocks of 2^power, over four levels, for some columns.
  struct Cascade {
    Cascade(uint64_t num_rows, uint64_t num_columns);
    void AddTo(uint64_t level, uint64_t column, float value) { at[level * columns + column] += value; }
    // After `rows` whole rows.
    void Carry(uint64_t rows);
    float Sum(uint64_t column) const;
    uint64_t columns, power;
    std::vector<float> at;  // [level, column]
  };

  const uint64_t num_rows_, num_columns_;
  uint64_t in_rows_;  // columns that are added row by row; those after them in fours of rows
  Cascade rows_, fours_;
  std::vector<float> rest_;  // of the columns in fours: the rows after the last whole four, in order
};

}  // namespace sluice::arithmetic
