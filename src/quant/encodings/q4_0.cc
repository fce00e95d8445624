// Q4_0: 32 numbers in 18 bytes: f16 d, then 16 bytes whose low nibbles are the first 16 numbers and whose high nibbles
// are the last 16. x = d (q - 8), one rounding. Source: ggml-quants.c, dequantize_row_q4_0; PyPI's gguf, quants.Q4_0.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 16;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) {
  UnpackNibbles(block + 2, q);
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] - 8);
}

}  // namespace

std::span<const EncodingInfo> q4_0() {
  static const EncodingInfo info = {.name = "Q4_0",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 2,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
