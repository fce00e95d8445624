// IQ4_NL: 32 numbers in 18 bytes: f16 d, then 16 bytes whose low nibbles are the first 16 numbers and whose high
// nibbles are the last 16. x = d v(q), one rounding; v are 16 levels that are dense around zero. Source: ggml-quants.c,
// dequantize_row_iq4_nl; PyPI's gguf, quants.IQ4_NL.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 16;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { UnpackNibbles(block + 2, q); }

}  // namespace

std::span<const EncodingInfo> iq4_nl() {
  static const EncodingInfo info = {.name = "IQ4_NL",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 20,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, false, Unpack, true>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
