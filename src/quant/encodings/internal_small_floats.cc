#include "quant/encodings/internal_small_floats.h"

#include <array>
#include <bit>

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kQuietNan = 0x7FC00000, kInfinity = 0x7F800000;

struct Format {
  int exponent_bits, digit_bits, bias;  // of digit_bits the leading 1 is none
  bool negative_zero_is_nan = false;
};
constexpr Format kE4M3 = {4, 3, 7}, kE5M2 = {5, 2, 15}, kE4M3Fnuz = {4, 3, 8, true}, kE5M2Fnuz = {5, 2, 16, true},
                 kE2M1 = {2, 1, 1};

// The f32 of a code, in formats where every other code is a number.
constexpr float ToF32(uint32_t code, Format format) {
  const int magnitude_bits = format.exponent_bits + format.digit_bits;
  const uint32_t sign = code >> magnitude_bits << 31, magnitude = code & ((1u << magnitude_bits) - 1);
  const uint32_t digits = magnitude & ((1u << format.digit_bits) - 1);
  const int exponent = static_cast<int>(magnitude >> format.digit_bits);
  if (format.negative_zero_is_nan && sign != 0 && magnitude == 0) {
    return std::bit_cast<float>(sign | kQuietNan);
  }
  // Digits, with the leading 1 of normal numbers, in units of the last: exact, as is the power of two.
  const uint32_t units = exponent == 0 ? digits : digits | 1u << format.digit_bits;
  const int power = (exponent == 0 ? 1 : exponent) - format.bias - format.digit_bits;
  const float value = static_cast<float>(units) * std::bit_cast<float>(static_cast<uint32_t>(power + 127) << 23);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

constexpr std::array<float, 256> TableOf(Format format) {
  std::array<float, 256> table{};
  for (uint32_t code = 0; code < 256; ++code) table[code] = ToF32(code, format);
  return table;
}

void LookUp(const std::array<float, 256>& table, const uint8_t* __restrict in, uint64_t count, float* __restrict out) {
  for (uint64_t i = 0; i < count; ++i) out[i] = table[in[i]];
}

// f32 to a code, to nearest even; past the last number the code that comes next, or `overflow` where that is none.
template <Format kFormat, uint32_t kNan, uint32_t kOverflow>
uint8_t FromF32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 31 << 7, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > kInfinity) return static_cast<uint8_t>(sign | kNan);
  constexpr int kCut = 23 - kFormat.digit_bits;
  const int exponent = static_cast<int>(magnitude >> 23) - 127 + kFormat.bias;
  if (exponent < -kFormat.digit_bits) return static_cast<uint8_t>(sign);  // under half of the smallest
  // The number with its exponent in the format's place, or, under the smallest normal one, its digits shifted further.
  const int shift = exponent > 0 ? kCut : kCut + 1 - exponent;
  const uint32_t digits = magnitude & 0x7FFFFF;
  const uint32_t whole = exponent > 0 ? static_cast<uint32_t>(exponent) << 23 | digits : digits | 0x800000;
  const uint32_t kept = whole >> shift, rest = whole & ((1u << shift) - 1), half = 1u << (shift - 1);
  const uint32_t code = kept + ((rest > half || (rest == half && kept % 2 == 1)) ? 1 : 0);
  return static_cast<uint8_t>(sign | (code < kOverflow ? code : kOverflow));
}

}  // namespace

void DecodeE8M0(const uint8_t* in, uint64_t count, float* out) {
  static constexpr std::array<float, 256> kTable = [] {
    std::array<float, 256> table{};
    table[0] = 0x1p-127f;  // subnormal
    for (uint32_t code = 1; code < 255; ++code) table[code] = std::bit_cast<float>(code << 23);
    table[255] = std::bit_cast<float>(kQuietNan);
    return table;
  }();
  LookUp(kTable, in, count, out);
}

void DecodeE4M3Fnuz(const uint8_t* in, uint64_t count, float* out) {
  static constexpr std::array<float, 256> kTable = TableOf(kE4M3Fnuz);
  LookUp(kTable, in, count, out);
}

void DecodeE5M2Fnuz(const uint8_t* in, uint64_t count, float* out) {
  static constexpr std::array<float, 256> kTable = TableOf(kE5M2Fnuz);
  LookUp(kTable, in, count, out);
}

void DecodeE2M1Pairs(const uint8_t* in, uint64_t count, float* out) {
  struct Pair {
    float first, second;
  };
  static constexpr std::array<Pair, 256> kTable = [] {
    std::array<Pair, 256> table{};
    for (uint32_t code = 0; code < 256; ++code) table[code] = {ToF32(code & 15, kE2M1), ToF32(code >> 4, kE2M1)};
    return table;
  }();
  for (uint64_t i = 0; i < count / 2; ++i) {
    out[2 * i] = kTable[in[i]].first;
    out[2 * i + 1] = kTable[in[i]].second;
  }
}

void EncodeE4M3(const float* in, uint64_t count, uint8_t* out) {
  for (uint64_t i = 0; i < count; ++i) out[i] = FromF32<kE4M3, 0x7F, 0x7F>(in[i]);
}

void EncodeE5M2(const float* in, uint64_t count, uint8_t* out) {
  for (uint64_t i = 0; i < count; ++i) out[i] = FromF32<kE5M2, 0x7E, 0x7C>(in[i]);
}

}  // namespace sluice::quant::encodings
