#include "checkpoint/scaled_node.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::checkpoint {

using graph::Range;

ScaledNode::ScaledNode(const graph::Node* numbers, const graph::Node* scales, const ScaleGrid& grid,
                       quant::Encoding encoding)
    : Node(fmt::format("scaled {} {} {} {}", grid.rows, grid.columns, grid.block_rows, grid.block_columns), encoding,
           numbers->num_elements(), {numbers, scales}),
      grid_(grid) {
  SLUICE_CHECK(grid.rows > 0 && grid.columns > 0 && grid.block_rows > 0 && grid.block_columns > 0);
  SLUICE_CHECK(numbers->encoding()->decode != nullptr && encoding->encode != nullptr);
  SLUICE_CHECK(scales->encoding()->decode != nullptr && !scales->encoding().is_block());
}

// Whole rows of scales: there are few.
void ScaledNode::Needs(Range out, graph::NeedList* needs) const {
  needs->Add(0, out);
  if (out.size() == 0) return;
  const uint64_t first = grid_.GridRowOf(out.begin / grid_.columns);
  const uint64_t last = grid_.GridRowOf((out.end - 1) / grid_.columns);
  needs->Add(1, {first * grid_.grid_columns(), (last + 1) * grid_.grid_columns()});
}

void ScaledNode::Compute(const graph::ComputeArgs& args) const {
  if (args.range.size() == 0) return;
  auto* const values = reinterpret_cast<float*>(args.scratch);
  inputs()[0]->encoding()->decode(args.in[0].data, args.range.size(), values);
  const quant::Encoding scales = inputs()[1]->encoding();
  for (uint64_t at = args.range.begin; at < args.range.end;) {
    // What of this row shares a scale.
    const uint64_t row = at / grid_.columns, column = at % grid_.columns, block = column / grid_.block_columns;
    const uint64_t row_end = row * grid_.columns + std::min((block + 1) * grid_.block_columns, grid_.columns);
    const uint64_t end = std::min(row_end, args.range.end);
    const uint64_t place = grid_.GridRowOf(row) * grid_.grid_columns() + block - args.in[1].range.begin;
    float scale;
    scales->decode(args.in[1].data + scales.BytesOf(place), 1, &scale);
    float* const part = values + (at - args.range.begin);
    const uint64_t count = end - at;
    for (uint64_t i = 0; i < count; ++i) part[i] *= scale;
    if (!std::isfinite(scale)) {
      for (uint64_t i = 0; i < count; ++i) {
        if (std::isnan(part[i])) part[i] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    at = end;
  }
  encoding()->encode(values, args.range.size(), args.out);
}

}  // namespace sluice::checkpoint
