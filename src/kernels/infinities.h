// Counting infinities among stored floats, by their bits: what a cast costs to be watched. Dispatched; thread-safe.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// How many of `count` little-endian words are `bits` in all but their top bit, the sign. Any alignment.
uint64_t CountMagnitudes16(const uint8_t* words, uint64_t count, uint16_t bits);
uint64_t CountMagnitudes32(const uint8_t* words, uint64_t count, uint32_t bits);

constexpr uint16_t kF16Infinity = 0x7C00, kBf16Infinity = 0x7F80;
constexpr uint32_t kF32Infinity = 0x7F800000;

namespace reference {
uint64_t CountMagnitudes16(const uint8_t* words, uint64_t count, uint16_t bits);
uint64_t CountMagnitudes32(const uint8_t* words, uint64_t count, uint32_t bits);
}  // namespace reference

}  // namespace sluice::kernels
