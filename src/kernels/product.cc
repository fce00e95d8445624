// Weights as stored times tiles of activations.
//
// Problem: of a weight that is read once and used for n tokens, decoding must cost little beside n multiply-adds, and
// these must run at the rate of the registers, not of a cache.
//
// Idea: weights are broadcast and tokens lie in the lanes, so neither side is packed or transposed. A panel of 96 rows
// by 256 columns is decoded once, to f32 in the second cache; then, for each tile of 16 tokens (16 KiB of it in the
// first cache), register tiles of 6 rows by 2 vectors (12 by 1 with AVX-512) take their sums up where the columns
// before left them in `out`, so that no sum knows of panels.
//
// Gain: one core of a Zen 3 (AVX2), a loop of nothing but multiply-adds at 102 GFLOP/s: 83 to 97 at 512 tokens, K 576
// to 7168, whatever the encoding; 77 to 90 at 64 tokens; 49 to 73 at 16, where decoding takes a fifth and memory
// more.
#include "kernels/product.h"

#include <algorithm>
#include <cstring>

#include <hwy/cache_control.h>

#include "base/check.h"
#include "kernels/simd.h"
#include "kernels/tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#ifndef SLUICE_KERNELS_PRODUCT_ONCE
#define SLUICE_KERNELS_PRODUCT_ONCE
namespace sluice::kernels {

constexpr uint64_t kPanelColumns = 256;
constexpr uint64_t kPanelStride = kPanelColumns + 16;
static_assert(kProductScratchFloats == kProductPanelRows * kPanelStride);

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As wide as there are: lanes never meet, so the width leaves no trace in the bits.
using DF = hn::CappedTag<float, kTileTokens>;
using VF = hn::Vec<DF>;
constexpr uint64_t kLanes = hn::MaxLanes(DF());
constexpr uint64_t kVectors = kTileTokens / kLanes;  // of a tile's feature
// Rows of a register tile, accumulators of which fill the registers but for a weight and the activations: 12 x 1 of 32
// registers, 6 x 2 of 16, 3 x 4 of 16.
constexpr uint64_t kRows = kVectors == 1 ? 12 : kVectors == 2 ? 6 : kVectors == 4 ? 3 : 1;
static_assert(kProductRowStep % kRows == 0 && kProductPanelRows % kProductRowStep == 0);

struct Step {
  const float* in;  // [columns][16], one tile's part
  uint64_t columns;
  const float* bias;  // of this row on; null where none is to be added yet
  bool begins;        // sums begin at 0, else at what is in out
};

// One register tile: kNum rows of the panel with one tile of activations.
template <uint64_t kNum>
HWY_INLINE void RegisterTile(const float* weights, const Step& step, float* out) {
  const DF df;
  VF sums[kNum][kVectors];
#pragma GCC unroll 16
  for (uint64_t r = 0; r < kNum; ++r) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) {
      sums[r][v] = step.begins ? hn::Zero(df) : hn::Load(df, out + r * kTileTokens + v * kLanes);
    }
  }
  const float* in = step.in;
  for (uint64_t k = 0; k < step.columns; ++k, in += kTileTokens) {
    VF x[kVectors];
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) x[v] = hn::Load(df, in + v * kLanes);
#pragma GCC unroll 16
    for (uint64_t r = 0; r < kNum; ++r) {
      const VF w = hn::Set(df, weights[r * kPanelStride + k]);
#pragma GCC unroll 16
      for (uint64_t v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(w, x[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (uint64_t r = 0; r < kNum; ++r) {
#pragma GCC unroll 16
    for (uint64_t v = 0; v < kVectors; ++v) {
      VF sum = sums[r][v];
      if (step.bias != nullptr) sum = hn::Add(sum, hn::Set(df, step.bias[r]));
      hn::Store(sum, df, out + r * kTileTokens + v * kLanes);
    }
  }
}

// The rows that are left, fewer than kRows.
template <uint64_t kNum>
HWY_INLINE void LastRows(uint64_t rows, const float* weights, const Step& step, float* out) {
  if constexpr (kNum > 0) {
    if (rows == kNum) {
      RegisterTile<kNum>(weights, step, out);
    } else {
      LastRows<kNum - 1>(rows, weights, step, out);
    }
  }
}

void PanelTimesTile(const float* panel, uint64_t rows, Step step, float* out) {
  uint64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    RegisterTile<kRows>(panel + r * kPanelStride, step, out + r * kTileTokens);
    if (step.bias != nullptr) step.bias += kRows;
  }
  LastRows<kRows - 1>(rows - r, panel + r * kPanelStride, step, out + r * kTileTokens);
}

// Decodes columns [column, column + columns) of rows of a panel, the last of its columns or not, to args.scratch.
void WidenPanel(const ProductArgs& args, uint64_t row, uint64_t rows, uint64_t column, uint64_t columns) {
  const WeightFormat& format = args.format;
  const uint64_t at = column / format.block_elements * format.block_bytes;
  const uint64_t bytes = columns / format.block_elements * format.block_bytes;
  for (uint64_t r = row; r < row + rows; ++r) {
    const uint8_t* const stored = args.rows[r] + at;
    // What comes next of this row, or of the one a panel further: pieces of many rows in turn are no pattern that a
    // processor would foresee.
    const bool last = column + columns == args.columns;
    if (!last || r + kProductPanelRows < args.num_rows) {
      const uint8_t* const next = last ? args.rows[r + kProductPanelRows] : stored + bytes;
      for (uint64_t ahead = 0; ahead < bytes; ahead += 64) hwy::Prefetch(next + ahead);
    }
    float* const widened = args.scratch + (r - row) * kPanelStride;
    if (format.widen == nullptr) {
      std::memcpy(widened, stored, columns * sizeof(float));
    } else {
      format.widen(stored, columns, widened);
    }
  }
}

void Product(const ProductArgs& args) {
  const uint64_t step_columns = kPanelColumns / args.format.block_elements * args.format.block_elements;
  for (uint64_t row = 0; row < args.num_rows; row += kProductPanelRows) {
    const uint64_t rows = std::min(kProductPanelRows, args.num_rows - row);
    for (uint64_t column = 0; column < args.columns; column += step_columns) {
      const uint64_t columns = std::min(step_columns, args.columns - column);
      const bool last = column + columns == args.columns;
      WidenPanel(args, row, rows, column, columns);
      for (uint64_t tile = 0; tile < args.num_tiles; ++tile) {
        const Step step = {.in = args.in + tile * args.in_tile_floats + column * kTileTokens,
                           .columns = columns,
                           .bias = last && args.bias != nullptr ? args.bias + row : nullptr,
                           .begins = column == 0};
        PanelTimesTile(args.scratch, rows, step, args.out + tile * args.out_tile_floats + row * kTileTokens);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(Product);

void Product(const ProductArgs& args) {
  SLUICE_CHECK(args.format.block_elements >= 1 && args.format.block_elements <= kPanelColumns);
  SLUICE_CHECK(args.columns > 0 && args.columns % args.format.block_elements == 0);
  HWY_DYNAMIC_DISPATCH(Product)(args);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
