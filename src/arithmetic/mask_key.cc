#include "arithmetic/mask_key.h"

#include <cmath>
#include <string>

#include "base/check.h"
#include "kernels/sha256.h"

namespace sluice::arithmetic {

PhiloxKey MaskKey(uint64_t seed, std::string_view tensor_name, uint64_t ordinal) {
  kernels::Sha256 sha;
  sha.UpdateLengthPrefixed("sluice mask 1");
  sha.UpdateLengthPrefixed(std::to_string(seed));
  sha.UpdateLengthPrefixed(tensor_name);
  sha.UpdateLengthPrefixed(std::to_string(ordinal));
  const kernels::Hash256 hash = sha.Finish();
  const auto word = [&hash](int at) {
    return static_cast<uint32_t>(hash[at]) | static_cast<uint32_t>(hash[at + 1]) << 8 |
           static_cast<uint32_t>(hash[at + 2]) << 16 | static_cast<uint32_t>(hash[at + 3]) << 24;
  };
  return {word(0), word(4)};
}

uint64_t KeepBelow(double density) {
  SLUICE_CHECK(density >= 0 && density <= 1);
  return static_cast<uint64_t>(std::llround(density * 4294967296.0));
}

}  // namespace sluice::arithmetic
