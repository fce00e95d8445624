// Q3_K: 256 numbers in 110 bytes: 32 bytes of third bits (bit j of byte i belongs to number 32 j + i), 64 bytes of
// 2-bit numbers (as in Q2_K), 12 bytes of scales, f16 d. The scales of the 16 groups of 16 numbers have 6 bits: group
// i's low four are nibble i / 8 of byte i % 8, its high two are bits 2 (i / 4) on of byte 8 + i % 4.
// x = (d (scale - 32)) (q - 4), one rounding (the bracket is exact). Source: ggml-quants.c, dequantize_row_q3_K; PyPI's
// gguf, quants.Q3_K.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 32 + 64 + 12 + 2;

template <int kHalf>
void UnpackHalf(const uint8_t* third_bits, const uint8_t* bits, int8_t* q) {
  JoinBits<32, Bits{0, 3}, Bits{4 * kHalf, 1}, 2, 4>(bits, third_bits, q);
  JoinBits<32, Bits{2, 3}, Bits{4 * kHalf + 1, 1}, 2, 4>(bits, third_bits, q + 32);
  JoinBits<32, Bits{4, 3}, Bits{4 * kHalf + 2, 1}, 2, 4>(bits, third_bits, q + 64);
  JoinBits<32, Bits{6, 3}, Bits{4 * kHalf + 3, 1}, 2, 4>(bits, third_bits, q + 96);
}

void Unpack(const uint8_t* block, SuperBlock* out) {
  const uint8_t* const scales = block + 96;
  const float d = ReadHalf(block + 108);
  int8_t six_bits[16];
  JoinBits<4, Bits{0, 15}, Bits{0, 3}, 4, 32>(scales, scales + 8, six_bits);
  JoinBits<4, Bits{0, 15}, Bits{2, 3}, 4, 32>(scales + 4, scales + 8, six_bits + 4);
  JoinBits<4, Bits{4, 15}, Bits{4, 3}, 4, 32>(scales, scales + 8, six_bits + 8);
  JoinBits<4, Bits{4, 15}, Bits{6, 3}, 4, 32>(scales + 4, scales + 8, six_bits + 12);
  for (int i = 0; i < 16; ++i) out->scales[i] = d * static_cast<float>(six_bits[i]);
  UnpackHalf<0>(block, block + 32, out->q);
  UnpackHalf<1>(block, block + 64, out->q + 128);
  out->finite = std::isfinite(d);
}

}  // namespace

std::span<const EncodingInfo> q3_k() {
  static const EncodingInfo info = {.name = "Q3_K",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 11,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 16, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
