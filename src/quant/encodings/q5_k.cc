// Q5_K: 256 numbers in 176 bytes: f16 d, f16 dmin, 12 bytes of scales and minima of the eight groups of 32 numbers
// (SixBitScales), 32 bytes of fifth bits (bit j of byte i belongs to number 32 j + i), 128 bytes of nibbles: of each 32
// bytes the low nibbles are 32 numbers, the high nibbles the next 32. x = (d scale) q - (dmin minimum), rounded at each
// step (the brackets are exact). Source: ggml-quants.c, dequantize_row_q5_K; PyPI's gguf, quants.Q5_K.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_256.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 2 + 12 + 32 + 128;

template <int kPair>
void UnpackPair(const uint8_t* fifth_bits, const uint8_t* nibbles, int8_t* q) {
  JoinBits<32, Bits{0, 15}, Bits{2 * kPair, 1}, 4>(nibbles, fifth_bits, q);
  JoinBits<32, Bits{4, 15}, Bits{2 * kPair + 1, 1}, 4>(nibbles, fifth_bits, q + 32);
}

void Unpack(const uint8_t* block, SuperBlock* out) {
  const float d = ReadHalf(block), dmin = ReadHalf(block + 2);
  SixBitScales(block + 4, d, dmin, out);
  UnpackPair<0>(block + 16, block + 48, out->q);
  UnpackPair<1>(block + 16, block + 80, out->q + 64);
  UnpackPair<2>(block + 16, block + 112, out->q + 128);
  UnpackPair<3>(block + 16, block + 144, out->q + 192);
  out->finite = std::isfinite(d) && std::isfinite(dmin);
}

}  // namespace

std::span<const EncodingInfo> q5_k() {
  static const EncodingInfo info = {.name = "Q5_K",
                                    .block_elements = 256,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 13,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf256<kBlockBytes, 32, true, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
