// Q8_0: 32 numbers in 34 bytes: f16 d, then 32 signed bytes. x = d q, one rounding. Source: ggml-quants.c,
// dequantize_row_q8_0; PyPI's gguf, quants.Q8_0.
#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint32_t kBlockBytes = 2 + 32;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { std::memcpy(q, block + 2, 32); }

}  // namespace

std::span<const EncodingInfo> q8_0() {
  static const EncodingInfo info = {.name = "Q8_0",
                                    .block_elements = 32,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 8,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, false, Unpack>};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
