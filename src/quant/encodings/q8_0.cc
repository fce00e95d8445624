// Q8_0: 32 numbers in 34 bytes: f16 d, then 32 signed bytes. x = d q, one rounding. Source: ggml-quants.c,
// dequantize_row_q8_0 and quantize_row_q8_0_ref; PyPI's gguf, quants.Q8_0.
#include <algorithm>
#include <cmath>

#include "quant/encoding.h"
#include "quant/encodings/internal_blocks_of_32.h"

namespace sluice::quant::encodings {
namespace {

constexpr uint64_t kElements = 32;
constexpr uint32_t kBlockBytes = 2 + kElements;
constexpr uint16_t kNanHalf = 0x7E00;

void Unpack(const uint8_t* __restrict block, int8_t* __restrict q) { std::memcpy(q, block + 2, kElements); }

// d = max |x| / 127, q = x / d as a product with 1 / d, halves away from 0: what ggml's reference does, bit for bit. A
// block with a number that is not finite becomes NaNs.
void EncodeBlock(const float* __restrict values, uint8_t* __restrict block) {
  float largest = 0;
  bool finite = true;
  for (uint64_t i = 0; i < kElements; ++i) {
    largest = std::max(largest, std::fabs(values[i]));
    finite &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
  }
  const float d = largest / 127;
  const uint16_t half = finite ? kernels::reference::F32ToF16(d) : kNanHalf;
  block[0] = static_cast<uint8_t>(half);
  block[1] = static_cast<uint8_t>(half >> 8);
  const float inverse = finite && d != 0 ? 1 / d : 0.0f;
  if (!(inverse <= std::numeric_limits<float>::max()) || inverse == 0) {
    std::memset(block + 2, 0, kElements);
    return;
  }
  for (uint64_t i = 0; i < kElements; ++i) {
    const float scaled = values[i] * inverse, size = std::fabs(scaled);
    const auto whole = static_cast<int32_t>(size);
    const int32_t rounded = whole + (size - static_cast<float>(whole) >= 0.5f ? 1 : 0);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(scaled < 0 ? -rounded : rounded));
  }
}

void Encode(const float* values, uint64_t num_elements, uint8_t* out) {
  for (uint64_t i = 0; i < num_elements; i += kElements, out += kBlockBytes) EncodeBlock(values + i, out);
}

}  // namespace

std::span<const EncodingInfo> q8_0() {
  static const EncodingInfo info = {.name = "Q8_0",
                                    .block_elements = kElements,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 8,
                                    .is_float = true,
                                    .decode = DecodeBlocksOf32<kBlockBytes, false, Unpack>,
                                    .encode = Encode};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
