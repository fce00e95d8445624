// GridCheck: whether numbers that are stored as plain floats lie on the grid of a block quantisation: what a
// dequantised model is made of, also after its numbers were rounded to BF16 or F16.
//
// A block of 32 numbers is looked at on its own. Its largest number tells the scale, up to the few that rounding
// leaves, and all others must be on the scale's grid. docs/verify_tensors.md says how improbable that is of other
// numbers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "quant/encoding.h"

namespace sluice::verify {

// Coarsest first: numbers on several grids are told as on the first.
constexpr std::array<std::string_view, 5> kGrids = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};
constexpr uint32_t kAllGrids = (1u << kGrids.size()) - 1;
constexpr uint64_t kGridElements = 32;

// F32, F16 and BF16.
bool CanLieOnGrid(quant::Encoding stored);

// Bits by index in kGrids.
struct GridFinding {
  uint32_t fits = 0;  // all numbers are on such a grid, whatever that says
  uint32_t told = 0;  // and of numbers of random digits it would hold with a probability below 2^-40
};
// `values`: kGridElements, decoded from `stored` (CanLieOnGrid). Looks for the grids of `wanted` alone. Thread-safe.
GridFinding FindGrids(quant::Encoding stored, const float* values, uint32_t wanted);

}  // namespace sluice::verify
