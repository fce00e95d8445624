// What one block of a sample is found to be: alone, for a fingerprint that is kept, or beside the same block of another
// model. Pure; thread-safe. A block has kSampleBlockElements elements at most.
#pragma once

#include <cstdint>

#include "kernels/sha256.h"
#include "quant/encoding.h"
#include "verify/difference.h"

namespace sluice::verify {

// Over the finite numbers of a block, in f64, added in element order.
struct BlockMoments {
  uint64_t finite = 0, nan = 0, infinite = 0;
  double sum = 0, sum_squares = 0;
  double least = 0, most = 0;  // 0 where nothing is finite

  static BlockMoments Of(const float* values, uint64_t count);
  uint64_t elements() const { return finite + nan + infinite; }
  bool operator==(const BlockMoments&) const = default;
};

// What a fingerprint keeps of a block.
struct BlockPrint {
  uint64_t elements = 0;
  kernels::Hash256 stored{};  // SHA-256 of the bytes as they are stored
  // Of encodings that have numbers: SHA-256 of them as f32, little-endian, each NaN as 0x7fc00000.
  bool has_numbers = false;
  kernels::Hash256 values{};
  BlockMoments moments;
};
BlockPrint PrintBlock(quant::Encoding encoding, const uint8_t* bytes, uint64_t elements);

enum class BlockState : uint8_t {
  kIdentical,       // the same encoding, the same bytes
  kEqualAfterCast,  // other encodings of the same numbers
  kRounded,         // one side is the other, rounded once
  kUnknown,         // other numbers in other encodings: a rounding that cannot be made again here may explain it
  kChanged,         // nothing but another number explains it
};

struct BlockComparison {
  uint64_t elements = 0;
  BlockState state = BlockState::kIdentical;
  bool a_is_rounded = false, b_is_rounded = false;  // kRounded: which side may be the rounding of the other
  bool has_numbers_a = false, has_numbers_b = false;
  BlockMoments a, b;
  bool has_sums = false;  // both sides' numbers were there
  DifferenceSums sums;

  bool Differs() const { return state != BlockState::kIdentical && state != BlockState::kEqualAfterCast; }
};

// The bytes of both sides. Where one of two encodings has no encoder here (Q4_K), other numbers are kUnknown, unless
// they are farther from a's than zeros would be: no quantisation is that bad.
BlockComparison CompareBlock(quant::Encoding encoding_a, const uint8_t* a, quant::Encoding encoding_b, const uint8_t* b,
                             uint64_t elements);

// By prints alone, as where a fingerprint is all that is left of one side. Other numbers in other encodings are
// kUnknown, unless their sums are too far apart for a rounding between two plain floats (docs/fingerprint.md).
BlockComparison ComparePrints(quant::Encoding encoding_a, const BlockPrint& a, quant::Encoding encoding_b,
                              const BlockPrint& b);

// Whether these can be the moments of numbers and of their rounding to nearest, one encoding's to the other's, either
// way. True where it is not known.
bool MayBeRounding(quant::Encoding encoding_a, const BlockMoments& a, quant::Encoding encoding_b,
                   const BlockMoments& b);

}  // namespace sluice::verify
