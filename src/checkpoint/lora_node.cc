// Idea: a piece is a few rows of a large matrix, or many of a small one. Its columns are gone through in panels: what
// the panel needs of `right` is decoded to [rank][columns], and rows that cover the panel alike are multiplied
// together.
#include "checkpoint/lora_node.h"

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/low_rank.h"

namespace sluice::checkpoint {
namespace {

using graph::Range;
using graph::View;

// A panel is 256 KiB, for the second cache, and the fewer columns the larger the rank: runs of `right` are read as long
// as they can be, which is what a piece of one or two rows spends its time on.
constexpr uint64_t kPanelFloats = 65536;
constexpr uint64_t kMinPanelColumns = 128, kMaxPanelColumns = 2048;
constexpr uint64_t kPadding = 16;  // rows of a panel would fall on the same few places of the caches
constexpr uint64_t kGroupRows = 16;

uint64_t PanelColumns(uint64_t rank) { return std::clamp(kPanelFloats / rank, kMinPanelColumns, kMaxPanelColumns); }

// A window holds at least a block of any encoding, so that no need may be longer. The cuts are the tensor's own: a part
// of a need lies within one cut of the whole.
void AddCut(uint32_t input, Range range, graph::NeedList* needs) {
  while (range.begin < range.end) {
    const uint64_t end = std::min((range.begin / graph::kBlockElements + 1) * graph::kBlockElements, range.end);
    needs->Add(input, {range.begin, end});
    range.begin = end;
  }
}

// Numbers of a factor, from the views of its needs, which come in order.
class Factor {
 public:
  Factor(std::span<const View> views, quant::Encoding encoding) : views_(views), encoding_(encoding) {}
  void Read(uint64_t begin, uint64_t count, float* out) const {
    auto view = std::upper_bound(views_.begin(), views_.end(), begin,
                                 [](uint64_t at, const View& v) { return at < v.range.begin; });
    SLUICE_CHECK(view != views_.begin());
    for (--view; count > 0; ++view) {
      SLUICE_CHECK(view != views_.end() && view->range.begin <= begin && begin < view->range.end);
      const uint64_t part = std::min(count, view->range.end - begin);
      encoding_->decode(view->data + encoding_.BytesOf(begin - view->range.begin), part, out);
      begin += part;
      count -= part;
      out += part;
    }
  }

 private:
  std::span<const View> views_;
  quant::Encoding encoding_;
};

// The part of a piece that lies in one row.
struct RowPart {
  uint64_t row, begin, end;  // columns
};

class Piece {
 public:
  Piece(Range range, uint64_t columns) : range_(range), columns_(columns) {}
  uint64_t first_row() const { return range_.begin / columns_; }
  uint64_t end_row() const { return (range_.end - 1) / columns_ + 1; }
  RowPart Part(uint64_t row) const {
    return {row, row == first_row() ? range_.begin % columns_ : 0,
            row + 1 == end_row() ? (range_.end - 1) % columns_ + 1 : columns_};
  }

 private:
  Range range_;
  uint64_t columns_;
};

}  // namespace

LoraNode::LoraNode(const graph::Node* weight, const graph::Node* left, const graph::Node* right,
                   const LowRankUpdate& update, quant::Encoding encoding)
    : Node(fmt::format("lora {} {} {} {:08x} {}", update.rows, update.columns, update.rank,
                       std::bit_cast<uint32_t>(update.scale), update.transposed),
           encoding, weight->num_elements(), {weight, left, right}),
      update_(update) {
  SLUICE_CHECK(update.rows > 0 && update.columns > 0 && update.rank > 0 && update.rank <= kMaxLoraRank);
  SLUICE_CHECK(weight->num_elements() == update.rows * update.columns && weight->encoding()->decode != nullptr);
  SLUICE_CHECK(left->num_elements() == update.rows * update.rank);
  SLUICE_CHECK(right->num_elements() == update.columns * update.rank);
  for (const graph::Node* factor : {left, right}) {
    SLUICE_CHECK(factor->encoding()->decode != nullptr && !factor->encoding().is_block());
  }
  SLUICE_CHECK(encoding->encode != nullptr && !encoding.is_block());
}

void LoraNode::Needs(Range out, graph::NeedList* needs) const {
  needs->Add(0, out);
  if (out.size() == 0) return;
  const Piece piece(out, update_.columns);
  const uint64_t first = piece.first_row(), end = piece.end_row(), rank = update_.rank;
  const bool one_row = end - first == 1;
  const uint64_t first_column = one_row ? piece.Part(first).begin : 0;
  const uint64_t end_column = one_row ? piece.Part(first).end : update_.columns;
  if (update_.transposed) {
    for (uint64_t j = 0; j < rank; ++j) AddCut(1, {j * update_.rows + first, j * update_.rows + end}, needs);
    AddCut(2, {first_column * rank, end_column * rank}, needs);
    return;
  }
  AddCut(1, {first * rank, end * rank}, needs);
  if (!one_row) return AddCut(2, {0, rank * update_.columns}, needs);
  for (uint64_t j = 0; j < rank; ++j) {
    AddCut(2, {j * update_.columns + first_column, j * update_.columns + end_column}, needs);
  }
}

uint64_t LoraNode::ScratchBytes() const {
  const uint64_t panels = update_.transposed ? 2 : 1;  // as read, and turned
  return (graph::kPieceElements + update_.rank * (panels * (PanelColumns(update_.rank) + kPadding) + kGroupRows)) *
         sizeof(float);
}

// Measured at ranks 8, 16 and 64: mostly reading `right` through the caches, once a piece.
double LoraNode::NanosecondsPerElement() const { return 1.0 + 0.15 * static_cast<double>(update_.rank); }

void LoraNode::Compute(const graph::ComputeArgs& args) const {
  if (args.range.size() == 0) return;
  const uint64_t rank = update_.rank, columns = update_.columns;
  auto* const values = reinterpret_cast<float*>(args.scratch);
  float* const group_left = values + graph::kPieceElements;  // [kGroupRows][rank]
  const uint64_t panel_columns = PanelColumns(rank), stride = panel_columns + kPadding;
  float* const panel = group_left + kGroupRows * rank;  // [rank][stride]
  float* const unturned = panel + stride * rank;        // [panel_columns][rank]
  inputs()[0]->encoding()->decode(args.in[0].data, args.range.size(), values);

  graph::NeedList needs;
  Needs(args.range, &needs);
  const auto num_left = static_cast<size_t>(std::count_if(needs.needs().begin(), needs.needs().end(),
                                                          [](const graph::Need& need) { return need.input == 1; }));
  const Factor left(args.in.subspan(1, num_left), inputs()[1]->encoding());
  const Factor right(args.in.subspan(1 + num_left), inputs()[2]->encoding());

  const auto read_left = [&](uint64_t first, uint64_t end) {
    if (!update_.transposed) return left.Read(first * rank, (end - first) * rank, group_left);
    std::array<float, kGroupRows> of_rows;
    for (uint64_t j = 0; j < rank; ++j) {
      left.Read(j * update_.rows + first, end - first, of_rows.data());
      for (uint64_t row = 0; row < end - first; ++row) group_left[row * rank + j] = of_rows[row];
    }
  };
  const auto read_panel = [&](uint64_t first, uint64_t end) {
    if (!update_.transposed) {
      for (uint64_t j = 0; j < rank; ++j) right.Read(j * columns + first, end - first, panel + j * stride);
      return;
    }
    right.Read(first * rank, (end - first) * rank, unturned);
    for (uint64_t column = 0; column < end - first; ++column) {
      for (uint64_t j = 0; j < rank; ++j) panel[j * stride + column] = unturned[column * rank + j];
    }
  };

  const Piece piece(args.range, columns);
  for (uint64_t group = piece.first_row(); group < piece.end_row(); group += kGroupRows) {
    const uint64_t group_end = std::min(group + kGroupRows, piece.end_row());
    read_left(group, group_end);
    const bool one_row = group_end - group == 1;
    const uint64_t end = one_row ? piece.Part(group).end : columns;
    for (uint64_t first = one_row ? piece.Part(group).begin : 0; first < end; first += panel_columns) {
      const uint64_t last = std::min(first + panel_columns, end);
      const auto within = [&](uint64_t row) {
        const RowPart part = piece.Part(row);
        return RowPart{row, std::max(part.begin, first), std::min(part.end, last)};
      };
      bool is_read = false;
      for (uint64_t row = group; row < group_end;) {
        const RowPart part = within(row);
        uint64_t next = row + 1;  // rows that cover the panel alike
        while (next < group_end && within(next).begin == part.begin && within(next).end == part.end) ++next;
        if (part.begin < part.end) {
          if (!is_read) read_panel(first, last);
          is_read = true;
          kernels::AddLowRank({.left = group_left + (row - group) * rank,
                               .right = panel + (part.begin - first),
                               .right_stride = stride,
                               .rows = next - row,
                               .columns = part.end - part.begin,
                               .rank = rank,
                               .scale = update_.scale,
                               .values = values + (row * columns + part.begin - args.range.begin),
                               .values_stride = columns});
        }
        row = next;
      }
    }
  }
  encoding()->encode(values, args.range.size(), args.out);
}

}  // namespace sluice::checkpoint
