#include "arithmetic/sparse_masks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "base/check.h"
#include "kernels/mask_words.h"
#include "kernels/select.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kMostUnit = 256;  // the largest block of an encoding
static_assert(kMostUnit == kernels::kMostRowUnit);
constexpr uint64_t kWordsAtOnce = 256;  // in the first cache
constexpr uint64_t kKeepBelow = 1;      // of the words that the kernels make of masks: 0 where an element is kept

// Runs body(row, begin, end) for each row's part of `out`, in columns.
template <class Body>
void ForRows(graph::Range out, uint64_t columns, const Body& body) {
  for (uint64_t at = out.begin; at < out.end;) {
    const uint64_t row = at / columns, begin = at % columns;
    const uint64_t end = std::min(columns, begin + (out.end - at));
    body(row, begin, end);
    at += end - begin;
  }
}

// What a row's part is compared with, in runs of columns that lie together: body(begin, end).
template <class Body>
void ForRotatedRuns(const RowRotation& rotation, uint64_t begin, uint64_t end, uint64_t columns, const Body& body) {
  uint64_t run_begin = 0, run_end = 0;
  for (uint64_t unit = begin / rotation.unit(); unit * rotation.unit() < end; ++unit) {
    const uint64_t first = rotation.FirstOfUnit(unit);
    if (run_end != first || run_end == run_begin) {
      if (run_end > run_begin) body(run_begin, run_end);
      run_begin = first;
    }
    run_end = first + rotation.unit();
  }
  SLUICE_CHECK(run_end <= columns);
  if (run_end > run_begin) body(run_begin, run_end);
}

// Runs body(begin, end, keeps) for columns [begin, end) of a row in runs whose ties are kept or not: an element is kept
// if it stands after its equal.
template <class Body>
void ForTies(const RowRotation& rotation, uint64_t begin, uint64_t end, uint64_t columns, const Body& body) {
  // A column's other is further on until the units, or the elements within each unit, come round.
  const uint64_t first_unit = rotation.FirstOfUnit(0);
  const uint64_t period = first_unit > 0 ? columns : rotation.unit();
  const uint64_t later = first_unit > 0 ? columns - first_unit : rotation.unit() - rotation.shift();
  for (uint64_t at = begin; at < end;) {
    const uint64_t within = at % period;
    const bool keeps = within >= later;
    const uint64_t to = std::min(end, at - within + (keeps ? period : later));
    body(at, to, keeps);
    at = to;
  }
}

}  // namespace

quant::Encoding MaskEncoding() {
  static constexpr quant::EncodingInfo kInfo = {.name = "mask", .block_elements = kMaskWordBits, .block_bytes = 4};
  return quant::Encoding(&kInfo);
}

void BandMaskBits(const BandMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                  uint32_t* bits) {
  kernels::BandMaskBits(mask.has_top ? &mask.top : nullptr, mask.has_bottom ? &mask.bottom : nullptr, first_element,
                        count, x, base, bits);
}

RandomMaskNode::RandomMaskNode(PhiloxKey key, uint64_t keep_below, uint64_t num_elements)
    : KeptNode(fmt::format("random mask {} {} {}", key.k0, key.k1, keep_below), MaskEncoding(), num_elements,
               std::vector<const graph::Node*>()),
      key_(key),
      keep_below_(keep_below) {}

void RandomMaskNode::Compute(const graph::ComputeArgs& args) const {
  uint32_t words[kWordsAtOnce];
  auto* bits = reinterpret_cast<uint32_t*>(args.out);
  for (uint64_t at = args.range.begin; at < args.range.end; at += kWordsAtOnce) {
    const uint64_t count = std::min(kWordsAtOnce, args.range.end - at);
    kernels::RandomMaskWords(key_, at, count, words);
    kernels::MaskBits(words, keep_below_, count, bits + (at - args.range.begin) / kMaskWordBits);
  }
}

RowRotation::RowRotation(PhiloxKey key, uint64_t row, uint64_t columns)
    : unit_(std::min(kMostUnit, columns & (~columns + 1))), num_units_(columns / unit_) {
  const auto words = Philox4x32({static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), 1, 0}, key);
  const uint64_t random = static_cast<uint64_t>(words[1]) << 32 | words[0];
  // 1 to columns - 1, each as likely.
  const auto scaled = static_cast<unsigned __int128>(random) * (columns - 1);
  const uint64_t distance = 1 + static_cast<uint64_t>(scaled >> 64);
  unit_shift_ = distance / unit_;
  shift_ = distance % unit_;
}

RankMaskNode::RankMaskNode(const graph::Node* x, const graph::Node* base, const RankMask& mask)
    : KeptNode(fmt::format("rank mask {} {} {} {} {}", mask.key.k0, mask.key.k1, mask.columns, mask.low, mask.high),
               MaskEncoding(), x->num_elements(), {x, base}),
      mask_(mask) {
  SLUICE_CHECK(mask.columns >= 2 && num_elements() % mask.columns == 0);
}

void RankMaskNode::Needs(graph::Range out, graph::NeedList* needs) const {
  const uint64_t columns = mask_.columns;
  std::vector<graph::Range> others;  // of the first row and the last, where those are cut
  const auto add_row = [&](uint64_t row) {
    const uint64_t first = row * columns;
    const uint64_t begin = std::max(out.begin, first) - first, end = std::min(out.end - first, columns);
    if (end - begin == columns) return;
    ForRotatedRuns(RowRotation(mask_.key, row, columns), begin, end, columns, [&](uint64_t from, uint64_t to) {
      others.push_back({first + from, first + to});
    });
  };
  if (out.size() > 0) {
    const uint64_t first_row = out.begin / columns, last_row = (out.end - 1) / columns;
    add_row(first_row);
    if (last_row != first_row) add_row(last_row);
  }
  for (uint32_t input = 0; input < 2; ++input) {
    needs->Add(input, out);
    for (const graph::Range& other : others) needs->Add(input, other);
  }
}

// Copies of a row of each input, should they be out of place, what the row's elements are compared with, and words.
uint64_t RankMaskNode::ScratchBytes() const { return 4 * graph::kPieceElements * sizeof(float); }

void RankMaskNode::Compute(const graph::ComputeArgs& args) const {
  // Rounded up to 32 words, which a piece is a multiple of.
  auto* words = reinterpret_cast<uint32_t*>(args.scratch) + 3 * graph::kPieceElements;
  kernels::RandomMaskWords(mask_.key, args.range.begin, args.range.size(), words);
  auto* x_copy = reinterpret_cast<float*>(args.scratch);
  float* base_copy = x_copy + graph::kPieceElements;
  const graph::View &of_x = args.in[0], &of_base = args.in[args.in.size() / 2];
  ForRows(args.range, mask_.columns, [&](uint64_t row, uint64_t begin, uint64_t end) {
    const uint64_t first = row * mask_.columns + begin - args.range.begin;
    const float* x = FloatsAt(of_x, first, end - begin, x_copy);
    const float* base = FloatsAt(of_base, first, end - begin, base_copy);
    if (end - begin < mask_.columns) return ComparePart(args, row, begin, end, x, base, words + first);
    kernels::RankRowWords(mask_.low, mask_.high, RowRotation(mask_.key, row, mask_.columns).turn(), x, base,
                          words + first);
  });
  kernels::MaskBits(words, kKeepBelow, args.range.size(), reinterpret_cast<uint32_t*>(args.out));
}

// Columns [begin, end) of a row, which are x, base and words.
void RankMaskNode::ComparePart(const graph::ComputeArgs& args, uint64_t row, uint64_t begin, uint64_t end,
                               const float* x, const float* base, uint32_t* words) const {
  const std::span<const graph::View> of_x = args.in.first(args.in.size() / 2),
                                     of_base = args.in.last(args.in.size() / 2);
  size_t view = 0;  // the first that can hold what comes
  float x_copy[kMostUnit], base_copy[kMostUnit], magnitudes[kMostUnit];
  const RowRotation rotation(mask_.key, row, mask_.columns);
  const uint64_t unit = rotation.unit();
  float* const others = reinterpret_cast<float*>(args.scratch) + 2 * graph::kPieceElements;
  float* out = others;
  for (uint64_t column = begin; column < end;) {
    const uint64_t index = column / unit;
    const uint64_t wanted = row * mask_.columns + rotation.FirstOfUnit(index);
    const auto holds = [&](const graph::View& v) { return v.range.begin <= wanted && wanted + unit <= v.range.end; };
    for (size_t tried = 0; !holds(of_x[view]); ++tried) {
      SLUICE_CHECK(tried < of_x.size());
      view = (view + 1) % of_x.size();
    }
    const uint64_t at = wanted - of_x[view].range.begin;
    kernels::Magnitudes(FloatsAt(of_x[view], at, unit, x_copy), FloatsAt(of_base[view], at, unit, base_copy), unit,
                        magnitudes);
    const uint64_t first = column % unit, last = std::min(end - index * unit, unit);
    // Element i of the unit is compared with i + shift, which comes round.
    const auto copy = [&](uint64_t from, uint64_t to) { out = std::copy(magnitudes + from, magnitudes + to, out); };
    const uint64_t turn = unit - rotation.shift();
    if (first < turn) copy(first + rotation.shift(), std::min(last, turn) + rotation.shift());
    if (last > turn) copy(std::max(first, turn) - turn, last - turn);
    column += last - first;
  }
  ForTies(rotation, begin, end, mask_.columns, [&](uint64_t from, uint64_t to, bool keeps) {
    const uint64_t at = from - begin;
    kernels::RankMaskWords(mask_.low, mask_.high, keeps, to - from, x + at, base + at, others + at, words + at);
  });
}

}  // namespace sluice::arithmetic
