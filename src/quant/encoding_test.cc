#include "quant/encoding.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::quant {
namespace {

TEST(Encoding, SafetensorsFamilyIsClosedAndInAlignmentOrder) {
  const std::vector<std::string> names = {
      "BOOL", "F4",  "F6_E2M3", "F6_E3M2", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
      "I16",  "U16", "F16",     "BF16",    "I32", "U32", "F32",     "C64",     "F64",     "I64",         "U64"};
  const std::vector<int> bits = {8, 4, 6, 6, 8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 64, 64, 64, 64};
  ASSERT_EQ(names.size(), bits.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const Encoding encoding = EncodingByName(names[i]);
    ASSERT_TRUE(encoding.valid()) << names[i];
    EXPECT_EQ(encoding->safetensors_rank, static_cast<int>(i)) << names[i];
    EXPECT_EQ(encoding->block_bytes * 8u, encoding->block_elements * static_cast<uint32_t>(bits[i])) << names[i];
    EXPECT_EQ(encoding.BytesOf(24), 24u * static_cast<uint32_t>(bits[i]) / 8) << names[i];
  }
  size_t num_ranked = 0;
  for (const Encoding encoding : AllEncodings()) num_ranked += encoding->safetensors_rank >= 0;
  EXPECT_EQ(num_ranked, names.size());
  EXPECT_FALSE(EncodingByName("F8_E4M3FN").valid());
  EXPECT_FALSE(EncodingByName("f32").valid());
  EXPECT_FALSE(EncodingByName("").valid());
}

TEST(Encoding, GgmlTypesOfPlainFloats) {
  EXPECT_EQ(EncodingByGgmlType(0), F32());
  EXPECT_EQ(EncodingByGgmlType(1), F16());
  EXPECT_EQ(EncodingByGgmlType(30), BF16());
  EXPECT_FALSE(EncodingByGgmlType(0xffffffff).valid());
}

TEST(Encoding, DtypeNames) {
  for (const Encoding encoding : {F32(), F16(), BF16()}) {
    EXPECT_EQ(FloatByDtypeName(DtypeName(encoding)), encoding);
    EXPECT_EQ(FloatByDtypeName("torch." + std::string(DtypeName(encoding))), encoding);
  }
  EXPECT_EQ(FloatByDtypeName("bf16"), BF16());
  EXPECT_EQ(FloatByDtypeName("torch.f16"), F16());
  EXPECT_FALSE(FloatByDtypeName("int8").valid());
  EXPECT_FALSE(FloatByDtypeName("BF16").valid());
}

TEST(Encoding, PlainFloatsRoundTrip) {
  // Values that every plain float holds exactly.
  const std::vector<float> values = {0.0f, -0.0f, 1.0f, -2.5f, 0.15625f, 96.0f, std::numeric_limits<float>::infinity()};
  for (const Encoding encoding : {F32(), F16(), BF16()}) {
    std::vector<uint8_t> bytes(encoding.BytesOf(values.size()) + 1);
    std::vector<float> back(values.size());
    encoding->encode(values.data(), values.size(), bytes.data() + 1);  // unaligned
    encoding->decode(bytes.data() + 1, values.size(), back.data());
    EXPECT_EQ(std::memcmp(back.data(), values.data(), values.size() * sizeof(float)), 0) << encoding.name();
  }
}

TEST(Encoding, WhatIsDecodedIsFloat) {
  for (const Encoding encoding : AllEncodings()) {
    EXPECT_TRUE(encoding->decode == nullptr || encoding->is_float) << encoding.name();
    EXPECT_TRUE(encoding->encode == nullptr || encoding->decode != nullptr) << encoding.name();
    EXPECT_EQ(encoding.is_block(), encoding->block_elements > 1);
  }
}

}  // namespace
}  // namespace sluice::quant
