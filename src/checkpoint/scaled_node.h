// ScaledNode: numbers of a few bits times the scales that lie beside them, as one tensor of plain floats.
#pragma once

#include <cstdint>

#include "graph/node.h"

namespace sluice::checkpoint {

// Matrices of `rows` by `columns`, one after another, each with a scale for every block_rows by block_columns of its
// numbers; blocks at the ends are cut off. Scales lie row-major, one matrix's after another's.
struct ScaleGrid {
  uint64_t rows = 0, columns = 0;              // not 0
  uint64_t block_rows = 0, block_columns = 0;  // not 0

  uint64_t grid_rows() const { return (rows - 1) / block_rows + 1; }
  uint64_t grid_columns() const { return (columns - 1) / block_columns + 1; }
  // Of the row of all matrices together that is at `row`, the row of the grids together.
  uint64_t GridRowOf(uint64_t row) const { return row / rows * grid_rows() + row % rows / block_rows; }
};

// out[i] = number[i] * its scale in f32, rounded to `encoding`, a plain float: what DeepSeek-V3's weight_dequant
// computes. A NaN that a scale without a finite value makes is the quiet NaN.
class ScaledNode final : public graph::Node {
 public:
  // Both must have decoders; `scales` is one number a block of its encoding.
  ScaledNode(const graph::Node* numbers, const graph::Node* scales, const ScaleGrid& grid, quant::Encoding encoding);
  void Needs(graph::Range out, graph::NeedList* needs) const override;
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override { return graph::kPieceElements * sizeof(float); }
  double NanosecondsPerElement() const override { return 0.8; }

 private:
  ScaleGrid grid_;
};

}  // namespace sluice::checkpoint
