// Tiles: what every token carries in the forward pass lies as [tile][feature][kTileTokens] f32, aligned to 64 bytes. A
// tile is 16 tokens at neighbouring positions of one sequence (positions 16 t .. 16 t + 15), one in each lane.
//
// Kernels are vectors across tokens, so no lane ever meets another: a token's bits depend neither on the tokens beside
// it nor on tiles, threads or budget. Sums run in the order that each header states, each step one fused multiply-add,
// so that all instruction sets with FMA (AVX2, AVX-512, NEON) give the same bits, at any width of vector. Those without
// (SSE2 to SSE4) round twice and give the same bits among themselves. Signs and payloads of NaNs are not promised.
// Lanes beyond a sequence's end should hold finite numbers (RowsToTile writes zeros): not for the sake of the others,
// but because NaNs and subnormals are slow on some processors.
#pragma once

#include <cstdint>

namespace sluice::kernels {

constexpr uint64_t kTileTokens = 16;
constexpr uint64_t kTileAlignment = 64;  // bytes; of a tile and so of each feature

// Whether the instruction set that runs rounds a multiply-add once. The references take it as `fused`.
bool FusesMultiplyAdd();

}  // namespace sluice::kernels
