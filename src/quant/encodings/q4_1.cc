// Q4_1: 32 numbers in 20 bytes: f16 d, f16 m, then 16 bytes whose low nibbles are the first 16 numbers and whose high
// nibbles are the last 16. x = d q + m, rounded after the product and after the sum. Source: ggml-quants.c,
// dequantize_row_q4_1; PyPI's gguf, quants.Q4_1.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 2 + 16;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { UnpackNibbles(block + 4, q); }

}  // namespace

std::span<const EncodingInfo> q4_1() {
  static const EncodingInfo info = {.name = "Q4_1",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 3,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, true, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
