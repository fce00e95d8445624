// Q2_K: 256 numbers in 84 bytes: 16 bytes, one for each group of 16 numbers (scale in the low nibble, minimum in the
// high one), 64 bytes of 2-bit numbers, f16 d, f16 dmin. 32 bytes are 128 numbers: their bits 0-1 the first 32, bits
// 2-3 the next 32, and so on. x = (d scale) q - (dmin minimum), rounded at each step (the brackets are exact). Source:
// ggml-quants.c, dequantize_row_q2_K; PyPI's gguf, quants.Q2_K.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 16 + 64 + 2 + 2;

void Unpack(const uint8_t* block, SuperBlock* out) {
  const float d = ReadHalf(block + 80), dmin = ReadHalf(block + 82);
  for (int i = 0; i < 16; ++i) {
    out->scales[i] = d * static_cast<float>(block[i] & 15);
    out->offsets[i] = -(dmin * static_cast<float>(block[i] >> 4));
  }
  for (int half = 0; half < 2; ++half) {
    const uint8_t* const bits = block + 16 + 32 * half;
    int8_t* const q = out->q + 128 * half;
    TakeBits<32, Bits{0, 3}>(bits, q);
    TakeBits<32, Bits{2, 3}>(bits, q + 32);
    TakeBits<32, Bits{4, 3}>(bits, q + 64);
    TakeBits<32, Bits{6, 3}>(bits, q + 96);
  }
  out->finite = std::isfinite(d) && std::isfinite(dmin);
}

}  // namespace

std::span<const EncodingInfo> q2_k() {
  static const EncodingInfo info = {.name = "Q2_K",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 10,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 16, true, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
