#include "arithmetic/torch_trig.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

constexpr WorkingType kTypes[] = {WorkingType::kF32, WorkingType::kBf16, WorkingType::kF16};

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

// torch.sin and torch.cos of torch 2.15 (MKL 2024.2) in f32, bf16 and f16; numpy.sin of numpy 2.4.6.
struct Angle {
  float x;
  uint32_t sines[3], cosines[3], numpy_sine;
};
constexpr Angle kAngles[] = {
    {0.0f, {0x00000000, 0x00000000, 0x00000000}, {0x3f800000, 0x3f800000, 0x3f800000}, 0x00000000},
    {1e-06f, {0x358637bd, 0x35860000, 0x35880000}, {0x3f800000, 0x3f800000, 0x3f800000}, 0x358637bd},
    {0.01f, {0x3c23d657, 0x3c240000, 0x3c23e000}, {0x3f7ffcb9, 0x3f800000, 0x3f800000}, 0x3c23d657},
    {0.1f, {0x3dcc7577, 0x3dcd0000, 0x3dcc6000}, {0x3f7eb898, 0x3f7f0000, 0x3f7ec000}, 0x3dcc7577},
    {0.33f, {0x3ea5e8f8, 0x3ea60000, 0x3ea60000}, {0x3f722fd5, 0x3f720000, 0x3f722000}, 0x3ea5e8f8},
    {0.5f, {0x3ef57744, 0x3ef50000, 0x3ef58000}, {0x3f60a940, 0x3f610000, 0x3f60a000}, 0x3ef57744},
    {0.75f, {0x3f2e7fe1, 0x3f2e0000, 0x3f2e8000}, {0x3f3b4ff6, 0x3f3b0000, 0x3f3b4000}, 0x3f2e7fe1},
    {1.0f, {0x3f576aa4, 0x3f570000, 0x3f576000}, {0x3f0a5141, 0x3f0a0000, 0x3f0a6000}, 0x3f576aa5},
    {1.25f, {0x3f72f0a8, 0x3f730000, 0x3f730000}, {0x3ea171ef, 0x3ea10000, 0x3ea18000}, 0x3f72f0a8},
    {1.5707964f, {0x3f800000, 0x3f800000, 0x3f800000}, {0xb33bbd2e, 0x39fe0000, 0x39fda000}, 0x3f800000},
    {2.0f, {0x3f68c7b7, 0x3f690000, 0x3f68c000}, {0xbed51133, 0xbed50000, 0xbed52000}, 0x3f68c7b7},
    {2.5f, {0x3f193578, 0x3f190000, 0x3f194000}, {0xbf4d17bf, 0xbf4d0000, 0xbf4d2000}, 0x3f193579},
    {3.0f, {0x3e1081c3, 0x3e110000, 0x3e108000}, {0xbf7d7026, 0xbf7d0000, 0xbf7d8000}, 0x3e1081c3},
    {3.1415925f, {0x34222169, 0x3a7e0000, 0x3a7da000}, {0xbf800000, 0xbf800000, 0xbf800000}, 0x34222169},
};

TEST(TorchTrig, SinesAreTheLibrariesOwn) {
  for (const Angle& angle : kAngles) {
    for (int t = 0; t < 3; ++t) {
      const float x = RoundTo(kTypes[t], angle.x);
      EXPECT_EQ(Bits(TorchSin(kTypes[t], x)), angle.sines[t]) << x;
      EXPECT_EQ(Bits(TorchCos(kTypes[t], x)), angle.cosines[t]) << x;
    }
    EXPECT_EQ(Bits(NumpySin(angle.x)), angle.numpy_sine) << angle.x;
  }
}

// torch.acos in the same types; numpy.arccos with glibc 2.36.
struct Cosine {
  float x;
  uint32_t angles[3], numpy_angle;
};
constexpr Cosine kCosines[] = {
    {-1.0f, {0x40490fdb, 0x40490000, 0x40490000}, 0x40490fdb},
    {-0.99f, {0x404000df, 0x403f0000, 0x40402000}, 0x404000df},
    {-0.75f, {0x401ace94, 0x401b0000, 0x401ac000}, 0x401ace94},
    {-0.5f, {0x40060a92, 0x40060000, 0x40060000}, 0x40060a92},
    {-0.3f, {0x3ff01006, 0x3ff00000, 0x3ff02000}, 0x3ff01006},
    {-0.01f, {0x3fca578a, 0x3fca0000, 0x3fca6000}, 0x3fca578a},
    {0.0f, {0x3fc90fdb, 0x3fc90000, 0x3fc90000}, 0x3fc90fdb},
    {0.01f, {0x3fc7c82b, 0x3fc80000, 0x3fc7c000}, 0x3fc7c82b},
    {0.3f, {0x3fa20faf, 0x3fa20000, 0x3fa20000}, 0x3fa20faf},
    {0.5f, {0x3f860a92, 0x3f860000, 0x3f860000}, 0x3f860a92},
    {0.75f, {0x3f39051d, 0x3f390000, 0x3f390000}, 0x3f39051d},
    {0.9f, {0x3ee6ecfe, 0x3ee90000, 0x3ee70000}, 0x3ee6ecfe},
    {0.99f, {0x3e10efb5, 0x3e1d0000, 0x3e0f4000}, 0x3e10efb5},
    {0.999f, {0x3d37315a, 0x00000000, 0x3d350000}, 0x3d37315a},
    {0.9999999f, {0x3a000000, 0x00000000, 0x00000000}, 0x3a000000},
    {1.0f, {0x00000000, 0x00000000, 0x00000000}, 0x00000000},
};

// f32: within a unit in the last place.
TEST(TorchTrig, ArcCosinesAreTheLibrariesOwn) {
  for (const Cosine& cosine : kCosines) {
    EXPECT_NEAR(static_cast<double>(Bits(TorchAcos(WorkingType::kF32, cosine.x))), cosine.angles[0], 1) << cosine.x;
    for (int t = 1; t < 3; ++t) {
      EXPECT_EQ(Bits(TorchAcos(kTypes[t], RoundTo(kTypes[t], cosine.x))), cosine.angles[t]) << cosine.x;
    }
    EXPECT_EQ(Bits(NumpyAcos(cosine.x)), cosine.numpy_angle) << cosine.x;
  }
}

// The true values lie within 0.61 (sine, cosine) and 0.8 (arc cosine) units in the last place.
TEST(TorchTrig, IsNearTheTruth) {
  for (int i = -1000; i <= 1000; ++i) {
    const float x = static_cast<float>(i) * 0.0031f, cosine = static_cast<float>(i) * 0.001f;
    const auto near = [](float value, double truth, double units) {
      EXPECT_NEAR(static_cast<double>(value), truth, units * std::ldexp(1.0, std::ilogb(truth) - 23)) << truth;
    };
    if (i != 0) near(TorchSin(WorkingType::kF32, x), std::sin(static_cast<double>(x)), 0.61);
    near(TorchCos(WorkingType::kF32, x), std::cos(static_cast<double>(x)), 0.61);
    if (i < 1000) near(TorchAcos(WorkingType::kF32, cosine), std::acos(static_cast<double>(cosine)), 0.81);
  }
}

TEST(TorchTrig, PassesNanOn) {
  EXPECT_TRUE(std::isnan(TorchSin(WorkingType::kF32, NAN)));
  EXPECT_TRUE(std::isnan(TorchCos(WorkingType::kF16, INFINITY)));
  EXPECT_TRUE(std::isnan(TorchAcos(WorkingType::kBf16, NAN)));
  EXPECT_TRUE(std::isnan(NumpyAcos(NAN)));
}

}  // namespace
}  // namespace sluice::arithmetic
