#include "kernels/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"
#include "kernels/testing/tiles.h"
#include "kernels/tile.h"

namespace sluice::kernels {
namespace {

// A block encoding such as quant's: 32 numbers in 36 bytes, a float and 32 signed bytes.
void WidenBlocks(const uint8_t* blocks, uint64_t num_elements, float* out) {
  ASSERT_EQ(num_elements % 32, 0u);
  for (uint64_t i = 0; i < num_elements; ++i) {
    const uint8_t* block = blocks + i / 32 * 36;
    float scale;
    std::memcpy(&scale, block, 4);
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[4 + i % 32]));
  }
}

constexpr WeightFormat kF32 = {}, kBf16 = {Bf16ToF32, 1, 2}, kF16 = {F16ToF32, 1, 2}, kBlocks = {WidenBlocks, 32, 36};

struct Problem {
  uint64_t num_rows, columns, num_tiles;
  WeightFormat format = {};
  bool bias = false, specials = false;
  uint64_t in_gap = 0, out_gap = 0;  // floats between tiles that belong to nobody
};

std::string Name(const Problem& p) {
  return std::to_string(p.num_rows) + " x " + std::to_string(p.columns) + ", " + std::to_string(p.num_tiles) +
         " tiles, blocks of " + std::to_string(p.format.block_bytes) + (p.bias ? ", bias" : "") +
         (p.specials ? ", specials" : "");
}

// A product's arrays; rows lie apart, at odd addresses.
struct Arrays {
  explicit Arrays(const Problem& p) : problem(p) {
    const uint64_t bytes = p.columns / p.format.block_elements * p.format.block_bytes;
    for (uint64_t r = 0; r < p.num_rows; ++r) {
      const std::vector<float> values = OddFloats(p.columns, static_cast<uint32_t>(r), p.specials);
      std::vector<uint8_t>& row = stored.emplace_back(bytes + 1);  // to the byte: a sanitizer sees what reads further
      if (p.format.widen == Bf16ToF32) {
        F32ToBf16(values.data(), p.columns, row.data() + 1);
      } else if (p.format.widen == F16ToF32) {
        F32ToF16(values.data(), p.columns, row.data() + 1);
      } else if (p.format.widen == WidenBlocks) {
        for (uint64_t i = 0; i < bytes; ++i) row[1 + i] = static_cast<uint8_t>(37 * i + r);
        for (uint64_t b = 0; b < bytes; b += 36) std::memcpy(&row[1 + b], &values[b / 36 * 32], 4);
      } else {
        std::memcpy(row.data() + 1, values.data(), bytes);
      }
    }
    for (const std::vector<uint8_t>& row : stored) rows.push_back(row.data() + 1);
    bias = OddFloats(p.num_rows, 77, p.specials);
    in = NormalTiles(p.num_tiles * InStride(), 78);
    if (p.specials) {
      const std::vector<float> odd = OddFloats(in.size(), 79, true);
      for (size_t i = 0; i < in.size(); i += 50) in[i] = odd[i];
    }
    out = NormalTiles(p.num_tiles * OutStride(), 80);
  }
  uint64_t InStride() const { return problem.columns * kTileTokens + problem.in_gap; }
  uint64_t OutStride() const { return problem.num_rows * kTileTokens + problem.out_gap; }
  ProductArgs Args(float* to) {
    return {.rows = rows.data(),
            .num_rows = problem.num_rows,
            .columns = problem.columns,
            .format = problem.format,
            .bias = problem.bias ? bias.data() : nullptr,
            .in = in.data(),
            .in_tile_floats = InStride(),
            .out = to,
            .out_tile_floats = OutStride(),
            .num_tiles = problem.num_tiles,
            .scratch = scratch.data()};
  }

  Problem problem;
  std::vector<std::vector<uint8_t>> stored;
  std::vector<const uint8_t*> rows;
  std::vector<float> bias;
  TileFloats in, out;
  TileFloats scratch = TileFloats(kProductScratchFloats);
};

void ExpectTheReference(const Problem& problem) {
  SCOPED_TRACE(Name(problem));
  Arrays arrays(problem);
  TileFloats expected[2];
  for (const bool fused : {false, true}) {
    expected[fused] = arrays.out;
    reference::Product(arrays.Args(expected[fused].data()), fused);
  }
  ForEachTarget([&] {
    TileFloats out = arrays.out;
    Product(arrays.Args(out.data()));
    ASSERT_EQ(FirstDifferenceButNaN(out, expected[FusesMultiplyAdd()]), out.size());
  });
}

TEST(Product, EveryShapeIsTheReference) {
  for (const uint64_t num_rows : {0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 95, 96, 97, 109, 200}) {
    for (const uint64_t columns : {1, 2, 33, 255, 256, 257, 576}) {
      ExpectTheReference({.num_rows = num_rows, .columns = columns, .num_tiles = 2, .in_gap = 16, .out_gap = 48});
      if (HasFatalFailure()) return;
    }
  }
  for (const uint64_t num_tiles : {0, 1, 3, 5}) {
    ExpectTheReference({.num_rows = 14, .columns = 300, .num_tiles = num_tiles});
  }
}

TEST(Product, EveryFormatAndBiasIsTheReference) {
  for (const WeightFormat& format : {kF32, kBf16, kF16, kBlocks}) {
    for (const int flags : {0, 1, 2, 3}) {
      ExpectTheReference({.num_rows = 101,
                          .columns = 544,
                          .num_tiles = 3,
                          .format = format,
                          .bias = (flags & 1) != 0,
                          .specials = (flags & 2) != 0});
      if (HasFatalFailure()) return;
    }
  }
}

// However the work is cut, the bits are those of the whole.
TEST(Product, PartsAreTheWhole) {
  const Problem problem = {.num_rows = 150, .columns = 640, .num_tiles = 4, .format = kBlocks, .bias = true};
  Arrays arrays(problem);
  ForEachTarget([&] {
    TileFloats whole = arrays.out;
    Product(arrays.Args(whole.data()));
    for (const uint64_t row_step : {1, 12, 50, 96}) {
      for (const uint64_t tile_step : {1, 3}) {
        TileFloats parts = arrays.out;
        for (uint64_t row = 0; row < problem.num_rows; row += row_step) {
          for (uint64_t tile = 0; tile < problem.num_tiles; tile += tile_step) {
            ProductArgs args = arrays.Args(parts.data());
            args.rows += row;
            args.bias += row;
            args.num_rows = std::min(row_step, problem.num_rows - row);
            args.in += tile * arrays.InStride();
            args.out += tile * arrays.OutStride() + row * kTileTokens;
            args.num_tiles = std::min(tile_step, problem.num_tiles - tile);
            Product(args);
          }
        }
        ASSERT_EQ(FirstDifferenceButNaN(parts, whole), whole.size()) << row_step << " rows, " << tile_step << " tiles";
      }
    }
  });
}

// A token has the same bits alone and among others, in any lane.
TEST(Product, LanesDoNotMeet) {
  const Problem problem = {.num_rows = 20, .columns = 300, .num_tiles = 1};
  Arrays arrays(problem);
  ForEachTarget([&] {
    TileFloats whole = arrays.out;
    Product(arrays.Args(whole.data()));
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      TileFloats alone(arrays.in.size(), std::numeric_limits<float>::quiet_NaN()), out = arrays.out;
      const uint64_t moved = (lane + 5) % kTileTokens;
      for (uint64_t k = 0; k < problem.columns; ++k) {
        alone[k * kTileTokens + moved] = arrays.in[k * kTileTokens + lane];
      }
      ProductArgs args = arrays.Args(out.data());
      args.in = alone.data();
      Product(args);
      for (uint64_t r = 0; r < problem.num_rows; ++r) {
        ASSERT_TRUE(SameBitsButNaN(out[r * kTileTokens + moved], whole[r * kTileTokens + lane]));
        ASSERT_TRUE(std::isnan(out[r * kTileTokens + lane]));
      }
    }
  });
}

// A chain of K roundings, each at most 2^-24 of a partial sum whose size grows as sqrt(k): about
// 2^-24 sqrt(K/2) / sqrt(3) relative to the whole if errors are independent, 2e-6 at 7168; measured 1.2e-6.
TEST(Product, ErrorAgainstF64) {
  for (const uint64_t columns : {576, 1536, 7168}) {
    Arrays arrays({.num_rows = 24, .columns = columns, .num_tiles = 2, .format = kBf16});
    std::vector<double> exact(arrays.out.size());
    std::vector<float> weights(columns);
    for (uint64_t r = 0; r < 24; ++r) {
      Bf16ToF32(arrays.rows[r], columns, weights.data());
      for (uint64_t i = 0; i < 2 * kTileTokens; ++i) {
        const uint64_t tile = i / kTileTokens, lane = i % kTileTokens;
        double sum = 0;
        for (uint64_t k = 0; k < columns; ++k) {
          sum += static_cast<double>(weights[k]) * arrays.in[tile * arrays.InStride() + k * kTileTokens + lane];
        }
        exact[tile * arrays.OutStride() + r * kTileTokens + lane] = sum;
      }
    }
    ForEachTarget([&] {
      TileFloats out = arrays.out;
      Product(arrays.Args(out.data()));
      const double error = RelativeRms(out, exact);
      RecordProperty("error_" + std::to_string(columns), std::to_string(error * 1e9) + "e-9");
      EXPECT_LT(error, std::exp2(-24) * std::sqrt(static_cast<double>(columns) / 2 / 3) * (FusesMultiplyAdd() ? 1 : 2));
    });
  }
}

}  // namespace
}  // namespace sluice::kernels
