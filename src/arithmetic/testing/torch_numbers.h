// Numbers that tests and tools/goldens/torch_tables.py make alike, and digests of what torch makes of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "arithmetic/testing/node_runner.h"
#include "arithmetic/working_type.h"
#include "kernels/sha256.h"

namespace sluice::tests {

// Of very different sizes, so that every other order of adding shows; rounded to the type.
inline std::vector<float> TorchNumbers(arithmetic::WorkingType type, uint64_t count, uint64_t seed) {
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float fraction = static_cast<float>(seed >> 40) * 0x1p-24f - 0.5f;
    number = arithmetic::RoundTo(type, std::ldexp(fraction, static_cast<int>(seed >> 33 & 7) - 4));
  }
  return numbers;
}

// A base (model 0) and fine-tunes of it.
inline std::vector<float> TorchModel(arithmetic::WorkingType type, uint64_t count, uint64_t model) {
  std::vector<float> numbers = TorchNumbers(arithmetic::WorkingType::kF32, count, count);
  for (float& number : numbers) number = arithmetic::RoundTo(type, number * 0x1p-4f);
  if (model == 0) return numbers;
  const std::vector<float> deltas = TorchNumbers(arithmetic::WorkingType::kF32, count, count + model);
  for (uint64_t i = 0; i < count; ++i) numbers[i] = arithmetic::RoundTo(type, numbers[i] + deltas[i] * 0x1p-7f);
  return numbers;
}

// The first 16 digits of SHA-256 of f32 numbers.
inline std::string TorchDigest(std::span<const float> numbers) {
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(numbers.data()), numbers.size_bytes());
  return kernels::ToHex(kernels::HashBytes(bytes)).substr(0, 16);
}

inline uint64_t NumElements(const std::vector<uint64_t>& shape) {
  uint64_t product = 1;
  for (const uint64_t length : shape) product *= length;
  return product;
}

// What may not change a bit: as they come, and in small pieces on several threads, last to first.
constexpr RunOptions kTorchWays[] = {{}, {.piece_elements = 96, .threads = 3, .backwards = true, .misalign_bytes = 2}};

constexpr arithmetic::WorkingType kTorchTypes[] = {arithmetic::WorkingType::kF32, arithmetic::WorkingType::kBf16,
                                                   arithmetic::WorkingType::kF16};

}  // namespace sluice::tests
