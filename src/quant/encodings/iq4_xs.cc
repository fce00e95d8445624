// IQ4_XS: 256 numbers in 136 bytes: f16 d, u16 of the scales' high bits, 4 bytes of their low nibbles, 128 bytes of
// nibbles. The scales of the eight groups of 32 numbers have 6 bits: group i's low four are nibble i % 2 of byte i / 2,
// its high two are bits 2 i on of the u16. Groups have 16 bytes each: low nibbles are the first 16 numbers, high
// nibbles the last 16. x = (d (scale - 32)) v(q), one rounding (the bracket is exact), v the levels of IQ4_NL. Source:
// ggml-quants.c, dequantize_row_iq4_xs; PyPI's gguf, quants.IQ4_XS.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"
#include "quant/encodings/internal_non_linear_levels.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 2 + 4 + 128;

void Unpack(const uint8_t* block, SuperBlock* out) {
  const float d = ReadHalf(block);
  const int high_bits = block[2] | block[3] << 8;
  for (int i = 0; i < 8; ++i) {
    const int low = block[4 + i / 2] >> (i % 2 * 4) & 15, high = high_bits >> (2 * i) & 3;
    out->scales[i] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (int i = 0; i < 8; ++i) {
    TakeBits<16, Bits{0, 15}>(block + 8 + 16 * i, out->q + 32 * i);
    TakeBits<16, Bits{4, 15}>(block + 8 + 16 * i, out->q + 32 * i + 16);
  }
  kernels::LookUpBytes(kNonLinearLevels, kSuperBlock, out->q);
  out->finite = std::isfinite(d);
}

}  // namespace

std::span<const EncodingInfo> iq4_xs() {
  static const EncodingInfo info = {.name = "IQ4_XS",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 23,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 32, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
