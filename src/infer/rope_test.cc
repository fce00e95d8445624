#include "infer/rope.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace sluice::infer {
namespace {

// The formulas in f64, straight from the papers. An f32 frequency is within a few roundings of them: the exponent's is
// worth ln(theta) 2^-25 relative, the base's and each of the other steps' 2^-24. Where two frequencies are blended
// (yarn, llama3), a rounding of the larger counts, which is `factor` times the smaller.
template <class Formula>
void ExpectFrequencies(const RopeSpec& spec, uint64_t num_positions, Formula formula) {
  const RopeFrequencies got = FrequenciesOf(spec, num_positions);
  ASSERT_EQ(got.inverse.size(), spec.rotary_dim / 2);
  const bool blends = spec.type == RopeType::kYarn || spec.type == RopeType::kLlama3;
  const double roundings = (std::log(spec.theta) / 2 + 8) * (blends ? spec.factor : 1);
  for (uint64_t i = 0; i < got.inverse.size(); ++i) {
    const double wanted = formula(i);
    EXPECT_NEAR(got.inverse[i], wanted, wanted * roundings * 0x1p-24) << i;
  }
}

double Plain(const RopeSpec& spec, uint64_t i) {
  return std::pow(spec.theta, -2.0 * static_cast<double>(i) / static_cast<double>(spec.rotary_dim));
}

TEST(Rope, Default) {
  for (const double theta : {1e4, 5e5, 1e6, 5e6}) {
    const RopeSpec spec{.theta = theta, .rotary_dim = 128};
    ExpectFrequencies(spec, 10, [&](uint64_t i) { return Plain(spec, i); });
    EXPECT_EQ(FrequenciesOf(spec, 1), FrequenciesOf(spec, 1000000));
    EXPECT_FALSE(DependsOnLength(spec));
  }
}

// Rounded to f32 after the power and after the inverse, not once at the end: 10000^(6/16) is 31.6227766..., which
// rounds to 31.62277603, whose inverse rounds to 0.0316227786; rounded once it would be 0.0316227749.
TEST(Rope, EveryStepIsRounded) {
  const RopeFrequencies got = FrequenciesOf({.theta = 10000, .rotary_dim = 16}, 1);
  EXPECT_EQ(got.inverse[3], 0.0316227786f);
  EXPECT_NE(got.inverse[3], static_cast<float>(std::pow(10000.0, -6.0 / 16)));
}

TEST(Rope, Linear) {
  const RopeSpec spec{.type = RopeType::kLinear, .theta = 1e4, .rotary_dim = 64, .factor = 4};
  ExpectFrequencies(spec, 10, [&](uint64_t i) { return Plain(spec, i) / 4; });
}

TEST(Rope, DynamicStretchesBehindMaxPositions) {
  const RopeSpec spec{.type = RopeType::kDynamic, .theta = 1e4, .rotary_dim = 64, .max_positions = 32, .factor = 2};
  EXPECT_TRUE(DependsOnLength(spec));
  ExpectFrequencies(spec, 32, [&](uint64_t i) { return Plain(spec, i); });
  RopeSpec stretched = spec;
  stretched.theta = 1e4 * std::pow(2.0 * 72 / 32 - 1, 64.0 / 62);
  ExpectFrequencies(spec, 72, [&](uint64_t i) { return Plain(stretched, i); });
  EXPECT_NE(FrequenciesOf(spec, 33), FrequenciesOf(spec, 34));
}

TEST(Rope, YarnKeepsFastOnesAndInterpolatesSlowOnes) {
  const RopeSpec spec{.type = RopeType::kYarn,
                      .theta = 1e4,
                      .rotary_dim = 128,
                      .original_max_positions = 4096,
                      .factor = 16,
                      .attention_factor = 1.25};
  // Dimension i turns 4096 theta_i / (2 pi) times: 32 times at i = 20.9, once at 45.03.
  const double low = 20, high = 46;
  ExpectFrequencies(spec, 10, [&](uint64_t i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    return Plain(spec, i) * (1 - ramp) + Plain(spec, i) / 16 * ramp;
  });
  EXPECT_EQ(FrequenciesOf(spec, 1).attention_factor, 1.25f);

  RopeSpec exact = spec;
  exact.truncate = false;
  const auto dimension = [&](double rotations) {
    return 128 * std::log(4096 / (rotations * 2 * std::numbers::pi)) / (2 * std::log(1e4));
  };
  ExpectFrequencies(exact, 10, [&](uint64_t i) {
    const double ramp = std::clamp((static_cast<double>(i) - dimension(32)) / (dimension(1) - dimension(32)), 0.0, 1.0);
    return Plain(spec, i) * (1 - ramp) + Plain(spec, i) / 16 * ramp;
  });
}

TEST(Rope, Llama3) {
  const RopeSpec spec{.type = RopeType::kLlama3,
                      .theta = 5e5,
                      .rotary_dim = 128,
                      .original_max_positions = 8192,
                      .factor = 8,
                      .low_freq_factor = 1,
                      .high_freq_factor = 4};
  int kept = 0, blended = 0, divided = 0;
  ExpectFrequencies(spec, 10, [&](uint64_t i) {
    const double plain = Plain(spec, i), wavelength = 2 * std::numbers::pi / plain;
    if (wavelength < 2048) return ++kept, plain;
    if (wavelength > 8192) return ++divided, plain / 8;
    const double smooth = (8192 / wavelength - 1) / 3;
    return ++blended, (1 - smooth) * plain / 8 + smooth * plain;
  });
  EXPECT_GT(kept, 0);
  EXPECT_GT(blended, 0);
  EXPECT_GT(divided, 0);
}

TEST(Rope, LongropeTakesItsLongFactorsBehindTheOriginalLength) {
  const RopeSpec spec{.type = RopeType::kLongrope,
                      .theta = 1e4,
                      .rotary_dim = 8,
                      .original_max_positions = 32,
                      .attention_factor = 1.5,
                      .short_factor = {1, 1.5, 2, 3},
                      .long_factor = {2, 4, 8, 16}};
  EXPECT_TRUE(DependsOnLength(spec));
  ExpectFrequencies(spec, 32, [&](uint64_t i) { return Plain(spec, i) / spec.short_factor[i]; });
  ExpectFrequencies(spec, 33, [&](uint64_t i) { return Plain(spec, i) / spec.long_factor[i]; });
  EXPECT_EQ(FrequenciesOf(spec, 1).attention_factor, 1.5f);
}

TEST(RopeTables, PlacesAndValues) {
  const RopeSpec spec{.type = RopeType::kLinear, .theta = 1e4, .rotary_dim = 6, .factor = 2};
  RopeFrequencies frequencies = FrequenciesOf(spec, 1);
  frequencies.attention_factor = 1.5f;
  for (const auto& [begin, end] :
       {std::pair<uint64_t, uint64_t>(0, 1), {0, 16}, {16, 50}, {131056, 131073}, {32, 32}}) {
    const uint64_t tiles = (end - begin + 15) / 16;
    ASSERT_EQ(RopeTableSize(frequencies, begin, end), tiles * 3 * 16);
    std::vector<float> cosines(tiles * 3 * 16, 9), sines(tiles * 3 * 16, 9);
    FillRopeTables(frequencies, begin, end, cosines, sines);
    for (uint64_t i = 0; i < cosines.size(); ++i) {
      const uint64_t token = i % 16, pair = i / 16 % 3, tile = i / 48;
      const double position = static_cast<double>(begin + tile * 16 + token);
      const double angle = position * frequencies.inverse[pair];
      // The angle is rounded to f32, cosine and product once each.
      const double tolerance = 1.5 * (angle * 0x1p-24 + 0x1p-23);
      ASSERT_NEAR(cosines[i], 1.5 * std::cos(angle), tolerance) << begin << " " << i;
      ASSERT_NEAR(sines[i], 1.5 * std::sin(angle), tolerance) << begin << " " << i;
    }
  }
}

// A token's values do not depend on where its table begins.
TEST(RopeTables, NoMatterHowTheyAreCut) {
  const RopeFrequencies frequencies = FrequenciesOf({.theta = 1e6, .rotary_dim = 10}, 1);
  std::vector<float> cosines(4 * 80), sines(4 * 80), part_cosines(2 * 80), part_sines(2 * 80);
  FillRopeTables(frequencies, 0, 64, cosines, sines);
  FillRopeTables(frequencies, 32, 64, part_cosines, part_sines);
  EXPECT_TRUE(std::equal(part_cosines.begin(), part_cosines.end(), cosines.begin() + 2 * 80));
  EXPECT_TRUE(std::equal(part_sines.begin(), part_sines.end(), sines.begin() + 2 * 80));
}

}  // namespace
}  // namespace sluice::infer
