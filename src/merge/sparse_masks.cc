#include "merge/sparse_masks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
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

}  // namespace

void BandMaskWords(const BandMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                   uint32_t* words) {
  const auto within = [](const MagnitudeRanks::Rank& rank, uint32_t bits, uint64_t element) {
    return (bits > rank.bits) | ((bits == rank.bits) & (element <= rank.last_tie));
  };
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBitsOf(x[i], base[i]);
    const bool in_top = mask.has_top && within(mask.top, bits, first_element + i);
    const bool kept = !in_top && (!mask.has_bottom || within(mask.bottom, bits, first_element + i));
    words[i] = kept ? 0 : 1;
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

void RankMaskWords(const RankMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words) {
  kernels::RandomMaskWords(mask.key, first_element, count, words);
  ForRows({first_element, first_element + count}, mask.columns, [&](uint64_t row, uint64_t begin, uint64_t end) {
    const uint64_t first = row * mask.columns + begin - first_element;
    const float *of_x = x + first, *of_base = base + first, *of_others = others + first;
    uint32_t* of_words = words + first;
    // Without branches, which chance would mispredict; equal magnitudes, marked by a 2, are looked at after that.
    // Bounds as the last word on their near side: those up to 2^32 do not fit.
    const uint32_t has_low = mask.low > 0, low_last = static_cast<uint32_t>(mask.low - has_low);
    const uint32_t has_high = mask.high > 0, high_last = static_cast<uint32_t>(mask.high - has_high);
    uint32_t any_equal = 0;
    ForEachOfPart(end - begin, [&](uint64_t i) {
      const uint32_t bits = MagnitudeBitsOf(of_x[i], of_base[i]), other = std::bit_cast<uint32_t>(of_others[i]);
      const uint32_t is_kept = has_low & static_cast<uint32_t>(of_words[i] <= low_last);
      const uint32_t is_dropped = 1 ^ (has_high & static_cast<uint32_t>(of_words[i] <= high_last));
      const uint32_t is_compared = 1 ^ (is_kept | is_dropped);
      const uint32_t is_equal = is_compared & static_cast<uint32_t>(bits == other);
      of_words[i] = is_dropped | (is_compared & static_cast<uint32_t>(bits < other)) | is_equal << 1;
      any_equal |= is_equal;
    });
    if (any_equal == 0) return;
    const RowRotation rotation(mask.key, row, mask.columns);
    for (uint64_t column = begin; column < end; ++column) {
      uint32_t& word = words[first + column - begin];
      if (word == 2) word = column > rotation.Of(column) ? 0 : 1;
    }
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
      ForEachOfPart(unit,
                    [&](uint64_t i) { magnitudes[i] = std::bit_cast<float>(MagnitudeBitsOf(of_x[i], of_base[i])); });
      std::rotate(magnitudes, magnitudes + rotation.shift(), magnitudes + unit);
      const uint64_t first = column % unit, last = std::min(end - index * unit, unit);
      std::memcpy(out, magnitudes + first, (last - first) * sizeof(float));
      out += (last - first) * sizeof(float);
      column += last - first;
    }
  });
}

}  // namespace sluice::merge
