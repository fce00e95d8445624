// Product of weights as stored with tiles of activations (tile.h), in f32:
//
//   out[t][r][lane] = sum_k weight[r][k] in[t][k][lane]  (+ bias[r])
//
// Order of a sum: from 0, k ascending, one fused multiply-add each, the bias added last; whatever the ranges of rows
// and tiles of a call, so any split of the work gives the same bits. (Residuals: AddTiles of layer_ops.h after the
// product; a sum that began with one would round every step at the residual's size.) Error against f64, relative RMS,
// of random numbers: 5e-7 at K = 576, 1.5e-6 at 7168.
//
// Runs on the calling thread. To divide among threads: by rows, in multiples of kProductPanelRows where there are
// enough, else of kProductRowStep; each row is decoded once per call, so divide by tiles only where rows are too few.
// Thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// Decodes num_elements numbers (a multiple of the encoding's block) to f32; `blocks` may be unaligned. The type of
// quant's decode functions.
using WidenFunction = void (*)(const uint8_t* blocks, uint64_t num_elements, float* out);

// How weights are stored: block_elements numbers in block_bytes bytes.
struct WeightFormat {
  WidenFunction widen = nullptr;  // null: they are f32 already, little-endian
  uint32_t block_elements = 1;    // at most 256
  uint32_t block_bytes = 4;
};

constexpr uint64_t kProductPanelRows = 96;  // decoded at a time
constexpr uint64_t kProductRowStep = 12;    // rows that a register tile takes, on any instruction set a divisor of it
constexpr uint64_t kProductScratchFloats = kProductPanelRows * (256 + 16);  // 102 KiB: a panel, for the second cache

struct ProductArgs {
  const uint8_t* const* rows = nullptr;  // num_rows pointers, to `columns` numbers each; unaligned, anywhere
  uint64_t num_rows = 0;
  uint64_t columns = 0;  // K, not 0; a multiple of format.block_elements
  WeightFormat format = {};
  const float* bias = nullptr;  // num_rows, or null

  const float* in = nullptr;    // tile 0, [columns][16], aligned to 64 bytes
  uint64_t in_tile_floats = 0;  // from one tile to the next, >= 16 columns, a multiple of 16
  float* out = nullptr;         // tile 0, feature of row 0: [num_rows][16], aligned to 64 bytes; not over `in`
  uint64_t out_tile_floats = 0;
  uint64_t num_tiles = 0;

  float* scratch = nullptr;  // kProductScratchFloats floats, aligned to 64 bytes
};
void Product(const ProductArgs& args);

namespace reference {
// args.scratch is not used.
void Product(const ProductArgs& args, bool fused);
}  // namespace reference

}  // namespace sluice::kernels
