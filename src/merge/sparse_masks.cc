#include "merge/sparse_masks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/mask_words.h"
#include "kernels/select.h"
#include "kernels/task_vectors.h"
#include "merge/float_views.h"

namespace sluice::merge {
namespace {

constexpr uint64_t kMostUnit = 256;  // the largest block of an encoding

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

void BandMaskWords(const BandMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                   uint32_t* words) {
  kernels::BandMaskWords(mask.has_top ? &mask.top : nullptr, mask.has_bottom ? &mask.bottom : nullptr, first_element,
                         count, x, base, words);
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

void RankMaskWords(const RankMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words) {
  kernels::RandomMaskWords(mask.key, first_element, count, words);
  ForRows({first_element, first_element + count}, mask.columns, [&](uint64_t row, uint64_t begin, uint64_t end) {
    const uint64_t first = row * mask.columns - first_element;  // of the row's column 0; may be before the arrays
    const RowRotation rotation(mask.key, row, mask.columns);
    ForTies(rotation, begin, end, mask.columns, [&](uint64_t from, uint64_t to, bool keeps) {
      const uint64_t at = first + from;
      kernels::RankMaskWords(mask.low, mask.high, keeps, to - from, x + at, base + at, others + at, words + at);
    });
  });
}

RotatedMagnitudeNode::RotatedMagnitudeNode(const graph::Node* x, const graph::Node* base, PhiloxKey key,
                                           uint64_t columns)
    : Node(fmt::format("rotated magnitudes {} {} {}", key.k0, key.k1, columns), quant::F32(), x->num_elements(),
           {x, base}),
      key_(key),
      columns_(columns) {
  SLUICE_CHECK(columns >= 2 && num_elements() % columns == 0);
}

// Rows that are whole in `out` are needed as they stand; of a row that is cut, what its part is compared with.
void RotatedMagnitudeNode::Needs(graph::Range out, graph::NeedList* needs) const {
  for (uint32_t input = 0; input < 2; ++input) {
    graph::Range whole{};
    const auto add_whole = [&] {
      if (whole.size() > 0) needs->Add(input, whole);
      whole = {};
    };
    ForRows(out, columns_, [&](uint64_t row, uint64_t begin, uint64_t end) {
      const uint64_t first = row * columns_;
      if (end - begin == columns_) {
        whole = {whole.size() > 0 ? whole.begin : first, first + columns_};
        return;
      }
      add_whole();
      ForRotatedRuns(RowRotation(key_, row, columns_), begin, end, columns_, [&](uint64_t from, uint64_t to) {
        needs->Add(input, {first + from, first + to});
      });
    });
    add_whole();
  }
}

void RotatedMagnitudeNode::Compute(const graph::ComputeArgs& args) const {
  const std::span<const graph::View> x = args.in.first(args.in.size() / 2), base = args.in.last(args.in.size() / 2);
  size_t view = 0;  // the first that can hold what comes
  float x_copy[kCopyElements], base_copy[kCopyElements], magnitudes[kCopyElements];
  uint8_t* out = args.out;
  ForRows(args.range, columns_, [&](uint64_t row, uint64_t begin, uint64_t end) {
    const RowRotation rotation(key_, row, columns_);
    const uint64_t unit = rotation.unit();
    for (uint64_t column = begin; column < end;) {
      const uint64_t index = column / unit;
      const uint64_t wanted = row * columns_ + rotation.FirstOfUnit(index);
      const auto holds = [&](const graph::View& v) { return v.range.begin <= wanted && wanted + unit <= v.range.end; };
      for (size_t tried = 0; !holds(x[view]); ++tried) {
        SLUICE_CHECK(tried < x.size());
        view = (view + 1) % x.size();
      }
      const uint64_t at = wanted - x[view].range.begin;
      const float* of_x = FloatsAt(x[view], at, unit, x_copy);
      const float* of_base = FloatsAt(base[view], at, unit, base_copy);
      kernels::Magnitudes(of_x, of_base, unit, magnitudes);
      const uint64_t first = column % unit, last = std::min(end - index * unit, unit);
      // Element i of the unit is compared with i + shift, which comes round.
      const auto copy = [&](uint64_t from, uint64_t to) {
        std::memcpy(out, magnitudes + from, (to - from) * sizeof(float));
        out += (to - from) * sizeof(float);
      };
      const uint64_t turn = unit - rotation.shift();
      if (first < turn) copy(first + rotation.shift(), std::min(last, turn) + rotation.shift());
      if (last > turn) copy(std::max(first, turn) - turn, last - turn);
      column += last - first;
    }
  });
}

}  // namespace sluice::merge
