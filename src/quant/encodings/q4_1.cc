// Q4_1: 32 numbers in 20 bytes: f16 d, f16 m, then 16 bytes whose low nibbles are the first 16 numbers and whose high
// nibbles are the last 16. x = d q + m, rounded after the product and after the sum. Source: ggml-quants.c,
// dequantize_row_q4_1; PyPI's gguf, quants.Q4_1.
#include "quant/encoding.h"
#include "quant/encodings/internal_half_scale.h"

namespace sluice::quant::encodings {
namespace {

constexpr int kHalf = 16;
constexpr int kBlockBytes = 2 + 2 + kHalf;

// __restrict: bytes may alias floats, and without the promise that these do not, the loops stay scalar (6 times
// slower).
void Decode(const uint8_t* __restrict blocks, uint64_t num_elements, float* __restrict out) {
  for (uint64_t done = 0; done < num_elements; done += 2 * kHalf, blocks += kBlockBytes, out += 2 * kHalf) {
    const float d = ReadHalf(blocks), m = ReadHalf(blocks + 2);
    const uint8_t* q = blocks + 4;
    for (int i = 0; i < kHalf; ++i) out[i] = d * static_cast<float>(q[i] & 15) + m;
    for (int i = 0; i < kHalf; ++i) out[kHalf + i] = d * static_cast<float>(q[i] >> 4) + m;
    if (!std::isfinite(d) || !std::isfinite(m)) CanonicaliseNans(out, 2 * kHalf);
  }
}

}  // namespace

std::span<const EncodingInfo> q4_1() {
  static const EncodingInfo info = {.name = "Q4_1",
                                    .block_elements = 2 * kHalf,
                                    .block_bytes = kBlockBytes,
                                    .ggml_type = 3,
                                    .is_float = true,
                                    .decode = Decode};
  return {&info, 1};
}

}  // namespace sluice::quant::encodings
