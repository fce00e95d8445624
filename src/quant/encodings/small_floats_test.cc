// Floats of 4 and 8 bits against PyPI's ml_dtypes (tests/goldens/small_floats/make.py): all codes, and the borders of
// rounding.
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "quant/encoding.h"

namespace sluice::quant {
namespace {

std::string ReadGolden(const std::string& name) {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/goldens/small_floats/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string Lower(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  return name;
}

class SmallFloats : public testing::TestWithParam<const char*> {};

TEST_P(SmallFloats, AllCodesAreMlDtypes) {
  const Encoding encoding = EncodingByName(GetParam());
  ASSERT_NE(encoding->decode, nullptr);
  const std::string expected = ReadGolden(Lower(GetParam()) + ".f32");
  std::vector<uint8_t> codes(256);
  std::iota(codes.begin(), codes.end(), 0);
  const uint64_t count = codes.size() * encoding->block_elements;
  ASSERT_EQ(expected.size(), count * sizeof(float));
  std::vector<float> values(count + 1, 12345.f);
  encoding->decode(codes.data(), count, values.data());
  for (uint64_t i = 0; i < count; ++i) {
    EXPECT_EQ(std::memcmp(&values[i], expected.data() + i * sizeof(float), sizeof(float)), 0) << i << " " << values[i];
  }
  EXPECT_EQ(values.back(), 12345.f);
}

INSTANTIATE_TEST_SUITE_P(All, SmallFloats,
                         testing::Values("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4"),
                         [](const auto& param) { return std::string(param.param); });

TEST(SmallFloats, RoundAsMlDtypesDoes) {
  const std::string numbers = ReadGolden("encode.f32");
  std::vector<float> values(numbers.size() / sizeof(float));
  std::memcpy(values.data(), numbers.data(), numbers.size());
  ASSERT_GT(values.size(), 4000u);
  for (const char* name : {"F8_E4M3", "F8_E5M2"}) {
    const std::string expected = ReadGolden(Lower(name) + ".codes");
    ASSERT_EQ(expected.size(), values.size());
    std::vector<uint8_t> codes(values.size());
    EncodingByName(name)->encode(values.data(), values.size(), codes.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(codes[i], static_cast<uint8_t>(expected[i])) << name << " of " << values[i];
    }
  }
}

TEST(SmallFloats, WhatIsDecodedRoundsToItself) {
  std::vector<uint8_t> codes(256), again(256);
  std::iota(codes.begin(), codes.end(), 0);
  std::vector<float> values(256);
  for (const char* name : {"F8_E4M3", "F8_E5M2"}) {
    const Encoding encoding = EncodingByName(name);
    encoding->decode(codes.data(), 256, values.data());
    encoding->encode(values.data(), 256, again.data());
    for (size_t i = 0; i < 256; ++i) {
      if (values[i] == values[i]) EXPECT_EQ(again[i], codes[i]) << name;
    }
  }
}

TEST(SmallFloats, SixBitsAreNotDecoded) {
  for (const char* name : {"F6_E2M3", "F6_E3M2"}) EXPECT_EQ(EncodingByName(name)->decode, nullptr);
}

}  // namespace
}  // namespace sluice::quant
