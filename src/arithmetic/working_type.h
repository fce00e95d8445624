// WorkingType: the type that mergekit's arithmetic computes a tensor in. Numbers are held as floats; after each step
// they are rounded to what the type can hold.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/check.h"
#include "quant/encoding.h"

namespace sluice::arithmetic {

enum class WorkingType { kF32, kBf16, kF16 };

inline WorkingType WorkingTypeOf(quant::Encoding encoding) {
  if (encoding == quant::BF16()) return WorkingType::kBf16;
  if (encoding == quant::F16()) return WorkingType::kF16;
  SLUICE_CHECK(encoding == quant::F32());
  return WorkingType::kF32;
}

// To the nearest number of the type, ties to even; overflow is infinity, NaN stays NaN. In a form that compilers make
// vectors of.
template <WorkingType kType>
inline float RoundTo(float value) {
  if constexpr (kType == WorkingType::kF32) return value;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const bool is_nan = magnitude > 0x7F800000;
  if constexpr (kType == WorkingType::kBf16) {
    const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
    return std::bit_cast<float>((is_nan ? bits | 0x00400000 : rounded) & 0xFFFF0000);
  }
  // F16: 13 bits fewer from 2^-14 on, multiples of 2^-24 below: what stands on 0.5 is rounded to those.
  const uint32_t normal = (magnitude + 0xFFF + (magnitude >> 13 & 1)) & 0xFFFFE000;
  const uint32_t capped = normal >= 0x47800000 ? 0x7F800000 : normal;
  const float small = (std::bit_cast<float>(magnitude) + 0.5f) - 0.5f;
  const uint32_t finite = magnitude < 0x38800000 ? std::bit_cast<uint32_t>(small) : capped;
  const uint32_t quiet = (magnitude | 0x00400000) & 0xFFFFE000;
  return std::bit_cast<float>((is_nan ? quiet : finite) | (bits & 0x80000000));
}

inline float RoundTo(WorkingType type, float value) {
  switch (type) {
    case WorkingType::kF32:
      return value;
    case WorkingType::kBf16:
      return RoundTo<WorkingType::kBf16>(value);
    case WorkingType::kF16:
      return RoundTo<WorkingType::kF16>(value);
  }
  SLUICE_CHECK(false);
}

// Calls body.template operator()<type>().
template <class Body>
inline void WithType(WorkingType type, const Body& body) {
  switch (type) {
    case WorkingType::kF32:
      return body.template operator()<WorkingType::kF32>();
    case WorkingType::kBf16:
      return body.template operator()<WorkingType::kBf16>();
    case WorkingType::kF16:
      return body.template operator()<WorkingType::kF16>();
  }
}

// How many numbers one of torch's 256-bit vectors holds.
inline uint64_t LanesOf(WorkingType type) { return type == WorkingType::kF32 ? 8 : 16; }

// What masks and rescaling are computed in: torch has no masks of f16 on a CPU, so mergekit takes f32.
inline WorkingType MaskType(WorkingType type) { return type == WorkingType::kF16 ? WorkingType::kF32 : type; }

}  // namespace sluice::arithmetic
