#include "verify/grid_check.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"

namespace sluice::verify {
namespace {

uint32_t BitOf(std::string_view name) {
  for (size_t i = 0; i < kGrids.size(); ++i) {
    if (kGrids[i] == name) return 1u << i;
  }
  return 0;
}

std::vector<float> Stored(quant::Encoding encoding, const std::vector<float>& values) {
  std::vector<uint8_t> bytes(encoding.BytesOf(values.size()));
  std::vector<float> back(values.size());
  encoding->encode(values.data(), values.size(), bytes.data());
  encoding->decode(bytes.data(), values.size(), back.data());
  return back;
}

float Half(float value) { return Stored(quant::F16(), {value})[0]; }

// A block as the reference quantisers make it (ggml-quants.c), decoded.
std::vector<float> Dequantised(std::string_view grid, const std::vector<float>& values) {
  if (grid == "Q8_0") return Stored(quant::EncodingByName("Q8_0"), values);
  const int levels = grid.starts_with("Q4") ? 16 : 32;
  float low = values[0], high = values[0], largest = 0;
  for (const float value : values) {
    low = std::min(low, value);
    high = std::max(high, value);
    if (std::abs(value) > std::abs(largest)) largest = value;
  }
  std::vector<float> result;
  for (const float value : values) {
    if (grid.ends_with("_0")) {
      const float d = largest / static_cast<float>(-levels / 2), half = Half(d);
      const int q = std::min(levels - 1, static_cast<int>(value / d + static_cast<float>(levels) / 2 + 0.5f));
      result.push_back(half * static_cast<float>(q - levels / 2));
    } else {
      const float d = (high - low) / static_cast<float>(levels - 1);
      const int q = std::min(levels - 1, static_cast<int>((value - low) / d + 0.5f));
      const float product = Half(d) * static_cast<float>(q);
      result.push_back(product + Half(low));
    }
  }
  return result;
}

std::vector<float> Normal(uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(kGridElements);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(GridCheckTest, DequantisedNumbersAreOnTheirGridHoweverTheyAreStored) {
  for (const std::string_view grid : kGrids) {
    for (const quant::Encoding stored : {quant::F32(), quant::F16(), quant::BF16()}) {
      int told = 0;
      for (uint32_t seed = 0; seed < 200; ++seed) {
        const std::vector<float> values = Stored(stored, Dequantised(grid, Normal(seed, 0.02f)));
        const GridFinding found = FindGrids(stored, values.data(), kAllGrids);
        EXPECT_NE(found.fits & BitOf(grid), 0u) << grid << " " << stored.name() << " " << seed;
        told += (found.told & BitOf(grid)) != 0 ? 1 : 0;
      }
      // What little a block tells after rounding to BF16 is enough of nearly all.
      EXPECT_GT(told, 180) << grid << " " << stored.name();
    }
  }
}

TEST(GridCheckTest, OtherNumbersAreOnNoGrid) {
  for (const quant::Encoding stored : {quant::F32(), quant::F16(), quant::BF16()}) {
    for (const float scale : {1e-3f, 0.02f, 1.0f}) {
      for (uint32_t seed = 0; seed < 500; ++seed) {
        const std::vector<float> values = Stored(stored, Normal(seed, scale));
        const GridFinding found = FindGrids(stored, values.data(), kAllGrids);
        EXPECT_EQ(found.fits, 0u) << stored.name() << " " << scale << " " << seed;
      }
    }
  }
}

TEST(GridCheckTest, NumbersThatCouldBeAnythingAreNotTold) {
  std::vector<std::vector<float>> blocks(4, std::vector<float>(kGridElements));
  for (float& value : blocks[1]) value = 0.125f;                      // constant
  for (size_t i = 0; i < kGridElements; i += 3) blocks[2][i] = 0.5f;  // of two numbers
  for (size_t i = 0; i < kGridElements; ++i) blocks[3][i] = i % 3 == 0 ? -0.25f : i % 3 == 1 ? 0.25f : 0;  // ternary
  for (const std::vector<float>& block : blocks) {
    for (const quant::Encoding stored : {quant::F32(), quant::BF16()}) {
      EXPECT_EQ(FindGrids(stored, block.data(), kAllGrids).told, 0u);
    }
  }
  std::vector<float> odd(kGridElements, std::nanf(""));
  EXPECT_EQ(FindGrids(quant::F32(), odd.data(), kAllGrids).told, 0u);
  odd = Dequantised("Q4_0", Normal(1, 0.02f));
  odd[7] = INFINITY;
  EXPECT_EQ(FindGrids(quant::F32(), odd.data(), kAllGrids).told, 0u);
}

TEST(GridCheckTest, OneNumberBesideTheGridIsEnough) {
  std::vector<float> values = Dequantised("Q4_0", Normal(3, 0.02f));
  ASSERT_NE(FindGrids(quant::F32(), values.data(), kAllGrids).told & BitOf("Q4_0"), 0u);
  values[5] *= 1.01f;
  values[6] += 1e-5f;
  EXPECT_EQ(FindGrids(quant::F32(), values.data(), kAllGrids).fits, 0u);
}

}  // namespace
}  // namespace sluice::verify
