// The key of a random mask: which Philox stream decides what of a model's tensor is kept. docs/formats/mask.md.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/counter_rng.h"

namespace sluice::arithmetic {

// First 64 bits of SHA-256 over the length-prefixed strings "sluice mask 1", seed, tensor_name, ordinal (both numbers
// as decimal text; a length is a u64, little-endian). k0 is bytes 0 to 3, k1 bytes 4 to 7, little-endian. `tensor_name`
// is the output's; `ordinal` counts the recipe's models from 0, the base left out.
PhiloxKey MaskKey(uint64_t seed, std::string_view tensor_name, uint64_t ordinal);

// round(density 2^32): a word below it is kept. Density from 0 to 1.
uint64_t KeepBelow(double density);

}  // namespace sluice::arithmetic
