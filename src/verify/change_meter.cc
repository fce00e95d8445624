#include "verify/change_meter.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "kernels/delta_sketch.h"
#include "verify/difference.h"

namespace sluice::verify {

std::optional<FloatCode> FloatCodeOf(quant::Encoding encoding) {
  if (encoding->name == "F32") return FloatCode{4, 0x7F800000, 0x1p-126f};
  if (encoding->name == "BF16") return FloatCode{2, 0x7F80, 0x1p-126f};
  if (encoding->name == "F16") return FloatCode{2, 0x7C00, 0x1p-14f};
  if (encoding->name == "F8_E5M2") return FloatCode{1, 0x7C, 0x1p-14f};
  if (encoding->name == "F8_E4M3") return FloatCode{1, 0x7F, 0x1p-6f};
  return std::nullopt;
}

quant::Encoding Coarser(quant::Encoding a, quant::Encoding b) {
  if (a->significand_bits != b->significand_bits) return a->significand_bits < b->significand_bits ? a : b;
  return a->exponent_bits <= b->exponent_bits ? a : b;
}

ChangeMeter::ChangeMeter(const Setup& setup) : setup_(setup) {
  if (FloatCodeOf(setup.encodings[0]) && FloatCodeOf(setup.encodings[1])) {
    coarser_ = Coarser(setup.encodings[0], setup.encodings[1]);
    code_ = FloatCodeOf(coarser_);
  }
  for (int side = 0; side < 2; ++side) {
    fits_[side] = LooksAtGrids(setup) && CanLieOnGrid(setup.encodings[side]) ? kAllGrids : 0;
    told_[side] = 0;
  }
  if (setup.tells_rows && setup.rows > 0) rows_ = std::make_unique<std::atomic<uint64_t>[]>(CeilDiv(setup.rows, 64));
}

std::optional<SketchShape> ChangeMeter::ShapeOfSketch(const Setup& setup) {
  const SketchShape shape{setup.rows, setup.columns};
  if (!FloatCodeOf(setup.encodings[0]) || !FloatCodeOf(setup.encodings[1]) || !shape.Fits()) return std::nullopt;
  return shape;
}

bool ChangeMeter::LooksAtGrids(const Setup& setup) { return setup.columns > 0 && setup.columns % kGridElements == 0; }

void ChangeMeter::UseSketch(RankSketch* sketch, std::span<const uint32_t> signs) {
  sketch_ = sketch;
  signs_ = signs;
  sketch_->Begin({setup_.rows, setup_.columns});
}

void ChangeMeter::LookAtGrid(int side, const uint8_t* stored) {
  const uint32_t wanted = fits_[side].load(std::memory_order_relaxed);
  if (wanted == 0) return;
  float values[kGridElements];
  setup_.encodings[side]->decode(stored, kGridElements, values);
  const GridFinding found = FindGrids(setup_.encodings[side], values, wanted);
  fits_[side] &= found.fits;
  told_[side] |= found.told;
}

std::optional<int> ChangeMeter::grid(int side) const {
  const uint32_t found = fits_[side] & told_[side];
  return found == 0 ? std::nullopt : std::optional(std::countr_zero(found));
}

void ChangeMeter::MarkRows(graph::Range piece, const float* a, const float* b) {
  for (uint64_t at = piece.begin; at < piece.end;) {
    const uint64_t row = at / setup_.columns, end = std::min((row + 1) * setup_.columns, piece.end);
    const uint64_t from = at - piece.begin, count = end - at;
    if (FirstDifferent(a + from, b + from, count) < count) {
      rows_[row / 64].fetch_or(uint64_t{1} << (row % 64), std::memory_order_relaxed);
    }
    at = end;
  }
}

void ChangeMeter::AddChanged(graph::Range piece, const float* a, const float* b, const uint8_t* stored_a,
                             const uint8_t* stored_b, Scratch* scratch, double* squared_binades) {
  const uint64_t count = piece.size();
  if (rows_ != nullptr) MarkRows(piece, a, b);
  if (!code_) return;
  if (sketch_ != nullptr) {
    sketch_->Add(piece.begin, a, b, count, signs_, scratch->folded.data());
    kernels::AddSquaredBinades(a, b, count, code_->least_normal, squared_binades);
  }
  const uint8_t* codes[2] = {stored_a, stored_b};
  for (int side = 0; side < 2; ++side) {
    if (setup_.encodings[side] == coarser_) continue;
    coarser_->encode(side == 0 ? a : b, count, scratch->codes.data());
    codes[side] = scratch->codes.data();
  }
  kernels::UnitDistances distances;
  kernels::CountUnitDistances(codes[0], codes[1], count, code_->bytes, code_->special, &distances);
  uint64_t counted = distances.total();
  if (setup_.encodings[0] != setup_.encodings[1]) {  // else numbers that differ are at a distance
    counted = 0;
    for (uint64_t i = 0; i < count; ++i) counted += a[i] != b[i] && std::isfinite(a[i]) && std::isfinite(b[i]) ? 1 : 0;
  }
  const std::lock_guard lock(mutex_);
  distances_.Add(distances);
  counted_ += counted;
}

TensorDetails ChangeMeter::Finish(uint64_t changed, double squared_binades) {
  TensorDetails details;
  if (changed == 0) return details;
  if (code_) {
    details.units =
        UnitHistogram{std::string(coarser_->name), distances_, counted_ - std::min(counted_, distances_.total())};
    const double ulp = std::ldexp(1.0, 1 - coarser_->significand_bits);  // of a binade
    if (sketch_ != nullptr) {
      details.rank = sketch_->Finish(changed, squared_binades * ulp * ulp);
    } else if (!why_not_.empty()) {
      details.rank.emplace().reason = why_not_;
    }
  }
  if (rows_ != nullptr) {
    RowChanges& rows = details.rows.emplace();
    rows.rows = setup_.rows;
    uint64_t last = 0;  // one after the last changed row
    for (uint64_t row = 0; row < setup_.rows; ++row) {
      if ((rows_[row / 64] >> (row % 64) & 1) == 0) continue;
      ++rows.changed;
      if (rows.num_ranges > 0 && last == row) {
        if (rows.num_ranges <= RowChanges::kMostRanges) rows.ranges.back().second = row;
      } else {
        if (++rows.num_ranges <= RowChanges::kMostRanges) rows.ranges.emplace_back(row, row);
      }
      last = row + 1;
    }
  }
  return details;
}

}  // namespace sluice::verify
