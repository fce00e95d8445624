// Encodings: how the numbers of a tensor are stored, plain dtypes and block quantisations alike.
//
// An encoding is a row of a table (EncodingInfo); code passes Encoding, a one-pointer handle. Every encoding stores
// block_elements numbers in block_bytes bytes: BF16 is 1 in 2, Q4_1 32 in 20, F4 2 in 1. One file in quant/encodings
// adds one (or, for plain.cc, the closed family of safetensors' dtypes); the build finds it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace sluice::quant {

// Decodes num_elements numbers (a multiple of block_elements) from `blocks` to f32. Bit-exact: for plain floats the
// value itself, for blocks the format's formula in f32. `blocks` may be unaligned; `out` is num_elements floats.
using DecodeFunction = void (*)(const uint8_t* blocks, uint64_t num_elements, float* out);

// Encodes num_elements f32 numbers, a multiple of block_elements. Plain floats: round to nearest even, overflow to
// infinity (to NaN where there is none: F8_E4M3), NaN stays NaN. Blocks: as the file says. Null where not offered.
using EncodeFunction = void (*)(const float* values, uint64_t num_elements, uint8_t* out);

struct EncodingInfo {
  std::string_view name;  // the field's own: "BF16", "F8_E4M3", "Q4_1"
  uint32_t block_elements = 1;
  uint32_t block_bytes = 0;
  int safetensors_rank = -1;  // position in the writer's alignment order, -1: not a safetensors dtype
  int ggml_type = -1;         // GGUF's number, -1: not a GGUF type
  bool is_float = false;      // numbers that arithmetic may be done on, after `decode`
  int significand_bits =
      0;                  // plain floats: F32 24, BF16 8, F16 11; 0 for blocks. A cast to an encoding with at least as
  int exponent_bits = 0;  // many of both is lossless: F32 8, BF16 8, F16 5
  DecodeFunction decode = nullptr;
  EncodeFunction encode = nullptr;
};

class Encoding {
 public:
  Encoding() = default;
  explicit Encoding(const EncodingInfo* info) : info_(info) {}
  const EncodingInfo& operator*() const { return *info_; }
  const EncodingInfo* operator->() const { return info_; }
  bool valid() const { return info_ != nullptr; }
  bool operator==(const Encoding& other) const = default;

  // Bytes of num_elements numbers; num_elements must be whole blocks. Cannot overflow for tensors that were opened.
  uint64_t BytesOf(uint64_t num_elements) const { return num_elements / info_->block_elements * info_->block_bytes; }
  std::string_view name() const { return info_->name; }
  bool is_block() const { return info_->block_elements > 1; }

 private:
  const EncodingInfo* info_ = nullptr;
};

// All encodings known to the build, in a fixed order.
std::span<const Encoding> AllEncodings();

// Invalid handles where there is none.
Encoding EncodingByName(std::string_view name);
Encoding EncodingByGgmlType(uint32_t type);

// The plain floats that arithmetic produces.
Encoding F32();
Encoding F16();
Encoding BF16();

// "bfloat16", "bf16", "float16", "f16", "float32", "f32", each also with "torch."; invalid otherwise.
Encoding FloatByDtypeName(std::string_view name);
// "bfloat16", "float16", "float32": config.json's torch_dtype.
std::string_view DtypeName(Encoding plain_float);

}  // namespace sluice::quant
