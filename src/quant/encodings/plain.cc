// Plain dtypes: the closed family of safetensors, in the order in which its writer aligns them (safetensors_rank: BOOL
// is 0, U64 the widest). GGUF stores some of them too, under its own numbers.
//
// F6_E2M3 and F6_E3M2 are carried but not decoded: nothing settles how four of them lie in three bytes. F64 is not
// either: decoding is to f32, which would round.
#include <array>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/fp8.h"
#include "quant/encoding.h"
#include "quant/encodings/internal_small_floats.h"

namespace sluice::quant::encodings {
namespace {

// memcpy wants pointers even for nothing.
void DecodeF32(const uint8_t* blocks, uint64_t num_elements, float* out) {
  if (num_elements > 0) std::memcpy(out, blocks, num_elements * sizeof(float));
}
void EncodeF32(const float* values, uint64_t num_elements, uint8_t* out) {
  if (num_elements > 0) std::memcpy(out, values, num_elements * sizeof(float));
}

constexpr EncodingInfo Other(int rank, std::string_view name, uint32_t bytes, int ggml_type = -1) {
  return {.name = name, .block_bytes = bytes, .safetensors_rank = rank, .ggml_type = ggml_type};
}

// `elements` numbers in `bytes` bytes. Significands count the hidden bit, so F8_E8M0, which has nothing else, has one.
constexpr EncodingInfo Float(int rank, std::string_view name, uint32_t elements, uint32_t bytes, int significand_bits,
                             int exponent_bits, int ggml_type = -1, DecodeFunction decode = nullptr,
                             EncodeFunction encode = nullptr) {
  return {.name = name,
          .block_elements = elements,
          .block_bytes = bytes,
          .safetensors_rank = rank,
          .ggml_type = ggml_type,
          .is_float = true,
          .significand_bits = significand_bits,
          .exponent_bits = exponent_bits,
          .decode = decode,
          .encode = encode};
}

constexpr std::array<EncodingInfo, 22> kPlain = {{
    Other(0, "BOOL", 1),
    Float(1, "F4", 2, 1, 2, 2, -1, DecodeE2M1Pairs),
    Float(2, "F6_E2M3", 4, 3, 4, 2),
    Float(3, "F6_E3M2", 4, 3, 3, 3),
    Other(4, "U8", 1),
    Other(5, "I8", 1, 24),
    Float(6, "F8_E5M2", 1, 1, 3, 5, -1, kernels::E5M2ToF32, EncodeE5M2),
    Float(7, "F8_E4M3", 1, 1, 4, 4, -1, kernels::E4M3ToF32, EncodeE4M3),
    Float(8, "F8_E8M0", 1, 1, 1, 8, -1, DecodeE8M0),
    Float(9, "F8_E4M3FNUZ", 1, 1, 4, 4, -1, DecodeE4M3Fnuz),
    Float(10, "F8_E5M2FNUZ", 1, 1, 3, 5, -1, DecodeE5M2Fnuz),
    Other(11, "I16", 2, 25),
    Other(12, "U16", 2),
    Float(13, "F16", 1, 2, 11, 5, 1, kernels::F16ToF32, kernels::F32ToF16),
    Float(14, "BF16", 1, 2, 8, 8, 30, kernels::Bf16ToF32, kernels::F32ToBf16),
    Other(15, "I32", 4, 26),
    Other(16, "U32", 4),
    Float(17, "F32", 1, 4, 24, 8, 0, DecodeF32, EncodeF32),
    Other(18, "C64", 8),  // a pair of F32; no arithmetic on it
    Float(19, "F64", 1, 8, 53, 11, 28),
    Other(20, "I64", 8, 27),
    Other(21, "U64", 8),
}};

}  // namespace

std::span<const EncodingInfo> plain() { return kPlain; }

}  // namespace sluice::quant::encodings
