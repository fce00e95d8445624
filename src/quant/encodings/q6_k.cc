// Q6_K: 256 numbers in 210 bytes: 128 bytes of low nibbles, 64 bytes of high bits, 16 signed bytes of scales of the
// groups of 16 numbers, f16 d. In halves of 128 numbers, which have 64 bytes of nibbles and 32 of high bits: numbers
// 0-31 are the low nibbles of the first 32 bytes, 32-63 those of the next, 64-127 the high nibbles in the same order;
// their bits 4-5 are bits 0-1, 2-3, 4-5 and 6-7 of the high bits' bytes. x = (d scale) (q - 32), one rounding (the
// bracket is exact). Source: ggml-quants.c, dequantize_row_q6_K; PyPI's gguf, quants.Q6_K.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 128 + 64 + 16 + 2;

void Unpack(const uint8_t* block, SuperBlock* out) {
  const float d = ReadHalf(block + 208);
  for (int i = 0; i < 16; ++i) out->scales[i] = d * static_cast<float>(static_cast<int8_t>(block[192 + i]));
  for (int half = 0; half < 2; ++half) {
    const uint8_t* const nibbles = block + 64 * half;
    const uint8_t* const high_bits = block + 128 + 32 * half;
    int8_t* const q = out->q + 128 * half;
    JoinBits<32, Bits{0, 15}, Bits{0, 3}, 4, 32>(nibbles, high_bits, q);
    JoinBits<32, Bits{0, 15}, Bits{2, 3}, 4, 32>(nibbles + 32, high_bits, q + 32);
    JoinBits<32, Bits{4, 15}, Bits{4, 3}, 4, 32>(nibbles, high_bits, q + 64);
    JoinBits<32, Bits{4, 15}, Bits{6, 3}, 4, 32>(nibbles + 32, high_bits, q + 96);
  }
  out->finite = std::isfinite(d);
}

}  // namespace

std::span<const EncodingInfo> q6_k() {
  static const EncodingInfo info = {.name = "Q6_K",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 14,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 16, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
