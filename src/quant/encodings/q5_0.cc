// Q5_0: 32 numbers in 22 bytes: f16 d, 4 bytes whose bit i is the fifth bit of number i, then 16 bytes whose low
// nibbles are the first 16 numbers and whose high nibbles are the last 16. x = d (q - 16), one rounding. Source:
// ggml-quants.c, dequantize_row_q5_0; PyPI's gguf, quants.Q5_0.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 4 + 16;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { UnpackFiveBits<16>(block + 2, block + 6, q); }

}  // namespace

std::span<const EncodingInfo> q5_0() {
  static const EncodingInfo info = {.name = "Q5_0",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 6,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
