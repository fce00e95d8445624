// ggml's blocks against PyPI's gguf (tests/goldens/gguf/make.py) and, for what numpy leaves open, by hand.
#include <algorithm>
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

std::string ReadGolden(Encoding encoding, const std::string& ending) {
  std::string name(encoding.name());
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  name += ending;
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/goldens/gguf/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class GgmlBlocks : public testing::TestWithParam<const char*> {};

TEST_P(GgmlBlocks, DecodeIsBitEqualToPyPisGguf) {
  const Encoding encoding = EncodingByName(GetParam());
  ASSERT_TRUE(encoding.valid());
  const std::string blocks = ReadGolden(encoding, ".blocks"), expected = ReadGolden(encoding, ".f32");
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

TEST_P(GgmlBlocks, AnyCutBetweenBlocksGivesTheSameBits) {
  const Encoding encoding = EncodingByName(GetParam());
  const std::string blocks = ReadGolden(encoding, ".blocks"), expected = ReadGolden(encoding, ".f32");
  const auto* const bytes = reinterpret_cast<const uint8_t*>(blocks.data());
  const uint64_t num_elements = expected.size() / sizeof(float);
  std::vector<float> values(num_elements);
  for (uint64_t cut = 0; cut <= num_elements; cut += encoding->block_elements) {
    std::fill(values.begin(), values.end(), 12345.f);
    encoding->decode(bytes, cut, values.data());
    encoding->decode(bytes + encoding.BytesOf(cut), num_elements - cut, values.data() + cut);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0) << cut;
  }
}

// More blocks than are unpacked at a time.
TEST_P(GgmlBlocks, ManyBlocksAreAsOneByOne) {
  const Encoding encoding = EncodingByName(GetParam());
  std::string blocks = ReadGolden(encoding, ".blocks"), expected = ReadGolden(encoding, ".f32");
  for (int i = 0; i < 3; ++i) blocks += blocks, expected += expected;
  std::vector<float> values(expected.size() / sizeof(float));
  encoding->decode(reinterpret_cast<const uint8_t*>(blocks.data()), values.size(), values.data());
  EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0);
}

// Where a block's f16 scales are, the first of them one that every number takes.
std::vector<size_t> ScalesAt(Encoding encoding) {
  const std::string_view name = encoding.name();
  if (name == "Q4_1" || name == "Q5_1" || name == "Q4_K" || name == "Q5_K") return {0, 2};
  if (name == "Q2_K") return {80, 82};
  if (name == "Q3_K") return {108};
  if (name == "Q6_K") return {208};
  return {0};
}

TEST_P(GgmlBlocks, NansAreOneNan) {
  const Encoding encoding = EncodingByName(GetParam());
  const std::vector<size_t> places = ScalesAt(encoding);
  const uint64_t count = encoding->block_elements;
  for (const uint16_t scale : {0x7c00, 0xfc00, 0x7c01, 0x7e55, 0xfe00}) {
    for (const uint16_t other : {0x3c00, 0x7c00, 0xfe01}) {  // two NaNs of different payload, and inf - inf
      std::vector<uint8_t> block(encoding->block_bytes);
      for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint8_t>(i * 37);
      std::memcpy(block.data() + places[0], &scale, sizeof(scale));
      if (places.size() == 2) std::memcpy(block.data() + places[1], &other, sizeof(other));
      std::vector<float> values(count);
      encoding->decode(block.data(), count, values.data());
      for (const float value : values) {
        if (!std::isnan(value)) continue;
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        EXPECT_EQ(bits, 0x7fc00000u);
      }
      const auto nans = std::count_if(values.begin(), values.end(), [](float value) { return std::isnan(value); });
      if ((scale & 0x3ff) != 0) EXPECT_EQ(nans, static_cast<int64_t>(count));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgmlBlocks,
                         testing::Values("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
                                         "IQ4_NL", "IQ4_XS"),
                         [](const auto& param) { return std::string(param.param); });

// Every block that the build has is in the list above.
TEST(GgmlBlocksByHand, AllAreTested) {
  size_t num_blocks = 0;
  for (const Encoding encoding : AllEncodings()) num_blocks += encoding->ggml_type >= 0 && encoding.is_block();
  EXPECT_EQ(num_blocks, 12u);
}

// What was encoded once stays: decoded and encoded again, blocks that have their largest number at 127 are themselves.
TEST(GgmlBlocksByHand, Q8_0IsEncodedAsGgmlDoes) {
  const Encoding q8_0 = EncodingByName("Q8_0");
  const auto encoded = [&](std::vector<float> values) {
    std::vector<uint8_t> block(34);
    q8_0->encode(values.data(), 32, block.data());
    return block;
  };
  std::vector<float> values(32);
  EXPECT_EQ(encoded(values), std::vector<uint8_t>(34));
  // d = 1: halves go away from 0, and what is just below a half goes down.
  values[0] = 127, values[1] = 0.5f, values[2] = -0.5f, values[3] = 2.5f, values[4] = std::nextafter(0.5f, 0.0f);
  values[5] = -126.5f, values[6] = -127;
  std::vector<uint8_t> expected(34);
  const int8_t q[] = {127, 1, -1, 3, 0, -127, -127};
  expected[1] = 0x3c;
  for (size_t i = 0; i < std::size(q); ++i) expected[2 + i] = static_cast<uint8_t>(q[i]);
  EXPECT_EQ(encoded(values), expected);
  for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    values[7] = odd;
    std::vector<float> back(32);
    q8_0->decode(encoded(values).data(), 32, back.data());
    for (const float value : back) EXPECT_TRUE(std::isnan(value)) << odd;
  }
  std::fill(values.begin(), values.end(), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(encoded(values), std::vector<uint8_t>(34));
}

TEST(GgmlBlocksByHand, GgmlsNumbers) {
  const std::vector<std::pair<uint32_t, const char*>> kinds = {
      {2, "Q4_0"},  {3, "Q4_1"},  {6, "Q5_0"},  {7, "Q5_1"},  {8, "Q8_0"},    {10, "Q2_K"},
      {11, "Q3_K"}, {12, "Q4_K"}, {13, "Q5_K"}, {14, "Q6_K"}, {20, "IQ4_NL"}, {23, "IQ4_XS"}};
  for (const auto& [type, name] : kinds) EXPECT_EQ(EncodingByGgmlType(type), EncodingByName(name)) << name;
}

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
