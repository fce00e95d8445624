// Q5_1: 32 numbers in 24 bytes: f16 d, f16 m, 4 bytes whose bit i is the fifth bit of number i, then 16 bytes whose low
// nibbles are the first 16 numbers and whose high nibbles are the last 16. x = d q + m, rounded after the product and
// after the sum. Source: ggml-quants.c, dequantize_row_q5_1; PyPI's gguf, quants.Q5_1.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 2 + 4 + 16;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { UnpackFiveBits<0>(block + 4, block + 8, q); }

}  // namespace

std::span<const EncodingInfo> q5_1() {
  static const EncodingInfo info = {.name = "Q5_1",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 7,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, true, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
