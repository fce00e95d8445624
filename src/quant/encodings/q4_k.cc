// Q4_K: 256 numbers in 144 bytes: f16 d, f16 dmin, 12 bytes of scales and minima of the eight groups of 32 numbers
// (SixBitScales), 128 bytes of nibbles: of each 32 bytes the low nibbles are 32 numbers, the high nibbles the next 32.
// x = (d scale) q - (dmin minimum), rounded at each step (the brackets are exact). Source: ggml-quants.c,
// dequantize_row_q4_K; PyPI's gguf, quants.Q4_K.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 2 + 12 + 128;

void Unpack(const uint8_t* block, SuperBlock* out) {
  const float d = ReadHalf(block), dmin = ReadHalf(block + 2);
  SixBitScales(block + 4, d, dmin, out);
  for (int i = 0; i < 4; ++i) {
    TakeBits<32, Bits{0, 15}>(block + 16 + 32 * i, out->q + 64 * i);
    TakeBits<32, Bits{4, 15}>(block + 16 + 32 * i, out->q + 64 * i + 32);
  }
  out->finite = std::isfinite(d) && std::isfinite(dmin);
}

}  // namespace

std::span<const EncodingInfo> q4_k() {
  static const EncodingInfo info = {.name = "Q4_K",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 12,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 32, true, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
