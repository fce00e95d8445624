// Q4_0, Q4_1 and Q8_0 against PyPI's gguf (tests/goldens/gguf/make.py) and, for what numpy leaves open, by hand.
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "quant/encoding.h"

namespace sluice::quant {
namespace {

std::string ReadGolden(const std::string& name) {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/goldens/gguf/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class GgmlBlocks : public testing::TestWithParam<const char*> {};

TEST_P(GgmlBlocks, DecodeIsBitEqualToPyPisGguf) {
  const Encoding encoding = EncodingByName(GetParam());
  ASSERT_TRUE(encoding.valid());
  std::string file = GetParam();
  for (char& c : file) c = static_cast<char>(std::tolower(c));
  const std::string blocks = ReadGolden(file + ".blocks"), expected = ReadGolden(file + ".f32");
  const uint64_t num_elements = expected.size() / sizeof(float);
  ASSERT_GT(num_elements, 0u);
  ASSERT_EQ(encoding.BytesOf(num_elements), blocks.size());
  for (const size_t shift : {0, 1}) {  // unaligned too
    const std::string placed = std::string(shift, 'x') + blocks;
    std::vector<float> values(num_elements + 1, 12345.f);
    encoding->decode(reinterpret_cast<const uint8_t*>(placed.data()) + shift, num_elements, values.data());
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0);
    EXPECT_EQ(values.back(), 12345.f);
  }
}

TEST_P(GgmlBlocks, NansAreOneNan) {
  const Encoding encoding = EncodingByName(GetParam());
  for (const uint16_t scale : {0x7c00, 0xfc00, 0x7c01, 0x7e55, 0xfe00}) {
    std::vector<uint8_t> block(encoding->block_bytes);
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint8_t>(i * 37);
    std::memcpy(block.data(), &scale, sizeof(scale));
    const uint16_t other = 0xfe01;  // for Q4_1, two NaNs of different payload
    if (encoding.name() == "Q4_1") std::memcpy(block.data() + 2, &other, sizeof(other));
    float values[32];
    encoding->decode(block.data(), 32, values);
    for (const float value : values) {
      if (!std::isnan(value)) continue;
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      EXPECT_EQ(bits, 0x7fc00000u);
    }
    EXPECT_TRUE(std::isnan(values[5]) || (scale & 0x3ff) == 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgmlBlocks, testing::Values("Q4_0", "Q4_1", "Q8_0"),
                         [](const auto& param) { return std::string(param.param); });

TEST(GgmlBlocksByHand, Decode) {
  // d = 0.5 (0x3800), m = -1 (0xbc00); first byte 0xf1: number 0 has q = 1, number 16 has q = 15.
  std::vector<uint8_t> q4_1(20);
  q4_1[0] = 0x00, q4_1[1] = 0x38, q4_1[2] = 0x00, q4_1[3] = 0xbc, q4_1[4] = 0xf1;
  float values[32];
  EncodingByGgmlType(3)->decode(q4_1.data(), 32, values);
  EXPECT_EQ(values[0], -0.5f);
  EXPECT_EQ(values[16], 6.5f);
  EXPECT_EQ(values[1], -1.f);

  std::vector<uint8_t> q4_0(18);
  q4_0[1] = 0x38, q4_0[2] = 0xf1;
  EncodingByGgmlType(2)->decode(q4_0.data(), 32, values);
  EXPECT_EQ(values[0], -3.5f);
  EXPECT_EQ(values[16], 3.5f);
  EXPECT_EQ(values[31], -4.f);

  std::vector<uint8_t> q8_0(34);
  q8_0[1] = 0x38, q8_0[2] = 0x80, q8_0[33] = 127;
  EncodingByGgmlType(8)->decode(q8_0.data(), 32, values);
  EXPECT_EQ(values[0], -64.f);
  EXPECT_EQ(values[31], 63.5f);
  EXPECT_EQ(values[1], 0.f);
}

}  // namespace
}  // namespace sluice::quant
