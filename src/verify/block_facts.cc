#include "verify/block_facts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/compare.h"
#include "verify/block_sample.h"

namespace sluice::verify {
namespace {

using Floats = std::array<float, kSampleBlockElements>;

bool CanDecode(quant::Encoding encoding) { return encoding->decode != nullptr; }
bool CanEncode(quant::Encoding encoding) { return encoding->encode != nullptr; }
bool IsPlainFloat(quant::Encoding encoding) { return encoding->significand_bits > 0 && !encoding.is_block(); }

// NaN of any payload are one number, as casts are free to change it.
kernels::Hash256 HashValues(const float* values, uint64_t count) {
  static_assert(std::endian::native == std::endian::little);
  constexpr uint32_t kNan = 0x7fc00000;
  std::array<uint32_t, kSampleBlockElements> bits;
  std::memcpy(bits.data(), values, count * sizeof(float));
  for (uint64_t i = 0; i < count; ++i) {
    if (std::isnan(values[i])) bits[i] = kNan;
  }
  return kernels::HashBytes({reinterpret_cast<const uint8_t*>(bits.data()), count * sizeof(uint32_t)});
}

}  // namespace

BlockMoments BlockMoments::Of(const float* values, uint64_t count) {
  BlockMoments moments;
  for (uint64_t i = 0; i < count; ++i) {
    const double value = values[i];
    if (std::isnan(value)) {
      ++moments.nan;
    } else if (std::isinf(value)) {
      ++moments.infinite;
    } else {
      moments.least = moments.finite == 0 ? value : std::min(moments.least, value);
      moments.most = moments.finite == 0 ? value : std::max(moments.most, value);
      ++moments.finite;
      moments.sum += value;
      moments.sum_squares += value * value;
    }
  }
  return moments;
}

BlockPrint PrintBlock(quant::Encoding encoding, const uint8_t* bytes, uint64_t elements) {
  SLUICE_CHECK(elements <= kSampleBlockElements);
  BlockPrint print;
  print.elements = elements;
  print.stored = kernels::HashBytes({bytes, encoding.BytesOf(elements)});
  if (!CanDecode(encoding)) return print;
  Floats values;
  encoding->decode(bytes, elements, values.data());
  print.has_numbers = true;
  print.values = HashValues(values.data(), elements);
  print.moments = BlockMoments::Of(values.data(), elements);
  return print;
}

BlockComparison CompareBlock(quant::Encoding encoding_a, const uint8_t* a, quant::Encoding encoding_b, const uint8_t* b,
                             uint64_t elements) {
  SLUICE_CHECK(elements <= kSampleBlockElements);
  BlockComparison found;
  found.elements = elements;
  const bool same_encoding = encoding_a == encoding_b;
  const bool same_bytes = same_encoding && std::memcmp(a, b, encoding_a.BytesOf(elements)) == 0;
  Floats x, y;
  found.has_numbers_a = CanDecode(encoding_a);
  found.has_numbers_b = CanDecode(encoding_b);
  if (found.has_numbers_a) {
    encoding_a->decode(a, elements, x.data());
    found.a = BlockMoments::Of(x.data(), elements);
  }
  if (found.has_numbers_b) {
    encoding_b->decode(b, elements, y.data());
    found.b = same_bytes ? found.a : BlockMoments::Of(y.data(), elements);
  }
  found.has_sums = found.has_numbers_a && found.has_numbers_b;
  if (found.has_sums) {
    kernels::DifferenceLanes lanes;
    kernels::AccumulateDifference(x.data(), y.data(), elements, &lanes);
    found.sums = DifferenceSums::Of(lanes);
  }
  if (same_bytes) return found;
  if (same_encoding) {
    found.state = BlockState::kChanged;
  } else if (!found.has_sums) {
    found.state = BlockState::kUnknown;
  } else if (SameValues(x.data(), y.data(), elements)) {
    found.state = BlockState::kEqualAfterCast;
  } else {
    std::array<uint8_t, kSampleBlockElements * sizeof(float)> bytes;  // no encoder's blocks are wider
    Floats again;
    const auto is_rounding = [&](quant::Encoding encoding, const Floats& values, const uint8_t* stored,
                                 const Floats& decoded) {
      return CanEncode(encoding) &&
             IsRounding(encoding, values.data(), stored, decoded.data(), elements, bytes.data(), again.data());
    };
    found.a_is_rounded = is_rounding(encoding_a, y, a, x);
    found.b_is_rounded = is_rounding(encoding_b, x, b, y);
    if (found.a_is_rounded || found.b_is_rounded) {
      found.state = BlockState::kRounded;
    } else if (CanEncode(encoding_a) && CanEncode(encoding_b)) {
      found.state = BlockState::kChanged;
    } else {
      const bool too_far = found.sums.difference_squared > 0 && found.sums.difference_squared >= found.sums.a_squared;
      found.state = too_far ? BlockState::kChanged : BlockState::kUnknown;
    }
  }
  return found;
}

BlockComparison ComparePrints(quant::Encoding encoding_a, const BlockPrint& a, quant::Encoding encoding_b,
                              const BlockPrint& b) {
  BlockComparison found;
  found.elements = a.elements;
  found.has_numbers_a = a.has_numbers;
  found.has_numbers_b = b.has_numbers;
  found.a = a.moments;
  found.b = b.moments;
  if (encoding_a == encoding_b) {
    found.state = a.stored == b.stored ? BlockState::kIdentical : BlockState::kChanged;
  } else if (a.has_numbers && b.has_numbers && a.values == b.values) {
    found.state = BlockState::kEqualAfterCast;
  } else {
    const bool may_be = !a.has_numbers || !b.has_numbers || MayBeRounding(encoding_a, a.moments, encoding_b, b.moments);
    found.state = may_be ? BlockState::kUnknown : BlockState::kChanged;
  }
  return found;
}

bool MayBeRounding(quant::Encoding encoding_a, const BlockMoments& a, quant::Encoding encoding_b,
                   const BlockMoments& b) {
  if (!IsPlainFloat(encoding_a) || !IsPlainFloat(encoding_b)) return true;
  if (a.finite != b.finite || a.nan + a.infinite + b.nan + b.infinite > 0) return true;
  // |x - y| <= u |x| + h for each element, x the number and y its rounding: u half a unit in the last place, h half the
  // least subnormal. The coarser of the two encodings bounds both directions.
  const auto n = static_cast<double>(a.finite);
  double unit = 0, least = 0;
  for (const quant::Encoding encoding : {encoding_a, encoding_b}) {
    const int p = encoding->significand_bits, e = encoding->exponent_bits;
    unit = std::max(unit, std::ldexp(1, -p));
    least = std::max(least, std::ldexp(1, 2 - (1 << (e - 1)) - p));
  }
  const double norm = std::sqrt(std::max(a.sum_squares, b.sum_squares));
  // Sums in f64 of n numbers are off by less than n 2^-52 of the sum of absolute values, itself at most sqrt(n) norm.
  const double slack = n * 0x1p-50 * norm;
  const double norm_bound = unit * norm + std::sqrt(n) * least + slack;
  const double sum_bound = std::sqrt(n) * norm * unit + n * least + std::sqrt(n) * slack;
  return std::abs(std::sqrt(a.sum_squares) - std::sqrt(b.sum_squares)) <= norm_bound &&
         std::abs(a.sum - b.sum) <= sum_bound;
}

}  // namespace sluice::verify
