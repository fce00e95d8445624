// Q8_0: 32 numbers in 34 bytes: f16 d, then 32 signed bytes. x = d q, one rounding. Source: ggml-quants.c,
// dequantize_row_q8_0; PyPI's gguf, quants.Q8_0.
#include "quant/encoding.h"
#include "quant/encodings/internal_half_scale.h"

namespace sluice::quant::encodings {
namespace {

constexpr int kElements = 32;
constexpr int kBlockBytes = 2 + kElements;

// __restrict: bytes may alias floats, and without the promise that these do not, the loops stay scalar (6 times
// slower).
void Decode(const uint8_t* __restrict blocks, uint64_t num_elements, float* __restrict out) {
  for (uint64_t done = 0; done < num_elements; done += kElements, blocks += kBlockBytes, out += kElements) {
    const float d = ReadHalf(blocks);
    const uint8_t* q = blocks + 2;
    for (int i = 0; i < kElements; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(q[i]));
    if (!std::isfinite(d)) CanonicaliseNans(out, kElements);
  }
}

}  // namespace

std::span<const EncodingInfo> q8_0() {
  static const EncodingInfo info = {.name = "Q8_0",
                                    .block_elements = kElements,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 8,
                                    .is_float = true,
                                    .decode = Decode};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
