#include "kernels/layer_ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"
#include "kernels/testing/tiles.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Bit patterns over all floats, and every one of a stretch about some places where something changes.
TileFloats Sweep() {
  TileFloats values;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 2503) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (const float about :
       {0.0f, 0.3465736f, 0.625f, 1.0f, 9.0f, 44.0f, 87.33654f, 88.72284f, 89.0f, 103.97208f, 104.0f}) {
    for (int i = -200; i < 200; ++i) {
      const float value = std::bit_cast<float>(std::bit_cast<uint32_t>(about) + static_cast<uint32_t>(i));
      values.insert(values.end(), {value, -value});
    }
  }
  for (const float value : {kInfinity, -kInfinity, kNaN, -kNaN, -0.0f}) values.push_back(value);
  while (values.size() % kTileTokens != 0) values.push_back(0.5f);
  return values;
}

// |value - exact| in units of the last place of the f32 nearest to exact.
double Ulps(float value, double exact) {
  const double magnitude = std::fabs(exact);
  const int exponent = magnitude < 0x1p-126 ? -126 : std::ilogb(magnitude);
  return std::fabs(value - exact) / std::ldexp(1.0, exponent - 23);
}

void ExpectFunction(void (*function)(const float*, uint64_t, float*), float (*of_one)(float, bool),
                    double (*exact)(double), double max_ulps) {
  const TileFloats x = Sweep();
  ForEachTarget([&] {
    TileFloats y(x.size());
    function(x.data(), x.size(), y.data());
    const bool fused = FusesMultiplyAdd();
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_TRUE(SameBitsButNaN(y[i], of_one(x[i], fused))) << x[i];
      const double truth = exact(x[i]);
      if (std::isnan(truth)) {
        ASSERT_TRUE(std::isnan(y[i])) << x[i];
      } else if (static_cast<float>(truth) == kInfinity) {
        ASSERT_EQ(y[i], kInfinity) << x[i];
      } else {
        worst = std::max(worst, Ulps(y[i], truth));
        ASSERT_LE(Ulps(y[i], truth), max_ulps) << x[i];
      }
    }
    testing::Test::RecordProperty("worst_ulps", std::to_string(worst));
  });
}

TEST(LayerOps, ExpOverAllFloats) {
  ExpectFunction(
      Exp, reference::Exp, [](double x) { return std::exp(x); }, 1.5);
  EXPECT_EQ(reference::Exp(0, true), 1.0f);
  EXPECT_EQ(reference::Exp(-kInfinity, true), 0.0f);
  EXPECT_EQ(reference::Exp(kInfinity, true), kInfinity);
  EXPECT_EQ(reference::Exp(-104, true), 0.0f);
  EXPECT_EQ(reference::Exp(89, true), kInfinity);
  EXPECT_GT(reference::Exp(-103, true), 0.0f);  // subnormal
}

TEST(LayerOps, TanhOverAllFloats) {
  ExpectFunction(
      Tanh, reference::Tanh, [](double x) { return std::tanh(x); }, 2);
  EXPECT_EQ(reference::Tanh(kInfinity, true), 1.0f);
  EXPECT_EQ(reference::Tanh(-kInfinity, true), -1.0f);
  EXPECT_TRUE(std::signbit(reference::Tanh(-0.0f, true)));
}

// Of a function of two arrays.
template <class Vector, class OfOne, class Exact>
void ExpectElementwise(Vector vector, OfOne of_one, Exact exact, double tolerance) {
  for (const bool specials : {false, true}) {
    TileFloats a = NormalTiles(4096, 1, 3), b = NormalTiles(4096, 2);
    if (specials) {
      const std::vector<float> odd_a = OddFloats(a.size(), 3, true), odd_b = OddFloats(b.size(), 4, true);
      a.assign(odd_a.begin(), odd_a.end());
      b.assign(odd_b.begin(), odd_b.end());
    }
    ForEachTarget([&] {
      TileFloats out(a.size()), in_place = a;
      vector(a.data(), b.data(), a.size(), out.data());
      vector(in_place.data(), b.data(), a.size(), in_place.data());
      ASSERT_EQ(FirstDifferenceButNaN(out, in_place), out.size());
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_TRUE(SameBitsButNaN(out[i], of_one(a[i], b[i], FusesMultiplyAdd()))) << a[i] << ", " << b[i];
        if (!specials) {
          const double truth = exact(a[i], b[i]);
          ASSERT_NEAR(out[i], truth, tolerance * std::max(1.0, std::fabs(truth))) << a[i] << ", " << b[i];
        }
      }
    });
  }
}

// Tolerances: a few roundings of 6e-8 of numbers near the result's size; GELU's 1 + tanh cancels to the 6e-8 of 1,
// times g and u of up to 12 and 4.
TEST(LayerOps, Activations) {
  ExpectElementwise(
      SiluMultiply, reference::SiluMultiply, [](double g, double u) { return g / (1 + std::exp(-g)) * u; }, 1e-6);
  ExpectElementwise(
      GeluTanhMultiply, reference::GeluTanhMultiply,
      [](double g, double u) {
        return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * u;
      },
      4e-6);
  ExpectElementwise([](const float* x, const float*, uint64_t count, float* out) { SoftCap(x, 30, count, out); },
                    [](float x, float, bool fused) { return reference::SoftCap(x, 30, fused); },
                    [](double x, double) { return 30 * std::tanh(x / 30); }, 1e-6);
  ExpectElementwise(
      AddTiles, [](float a, float b, bool) { return a + b; }, [](double a, double b) { return a + b; }, 1e-7);
  ExpectElementwise([](const float* x, const float*, uint64_t count, float* out) { ScaleTiles(x, 24.5f, count, out); },
                    [](float x, float, bool) { return x * 24.5f; }, [](double x, double) { return x * 24.5; }, 1e-7);
}

TEST(LayerOps, ActivationsAtTheEnds) {
  TileFloats gate(16, 0.0f), up(16, 1.0f), out(16);
  gate[0] = 1000, gate[1] = -1000, gate[2] = kNaN, gate[3] = kInfinity, gate[4] = -0.0f;
  SiluMultiply(gate.data(), up.data(), 16, out.data());
  EXPECT_EQ(out[0], 1000);
  EXPECT_EQ(out[1], 0);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_EQ(out[3], kInfinity);
  EXPECT_EQ(out[4], 0);
  GeluTanhMultiply(gate.data(), up.data(), 16, out.data());
  EXPECT_EQ(out[0], 1000);
  EXPECT_EQ(out[1], 0);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_EQ(out[3], kInfinity);
}

TEST(LayerOps, RmsNorm) {
  for (const uint64_t features : {1, 2, 3, 4, 5, 64, 127, 576, 7168}) {
    for (const int form : {0, 1, 2}) {  // without weights, with, Gemma's
      SCOPED_TRACE(std::to_string(features) + " features, form " + std::to_string(form));
      const TileFloats x = NormalTiles(features * kTileTokens, 5, 2);
      const std::vector<float> odd = OddFloats(features + 1, 6, false);
      const float *weight = form == 0 ? nullptr : odd.data() + 1, offset = form == 2 ? 1.0f : 0.0f;
      ForEachTarget([&] {
        TileFloats out(x.size()), expected(x.size()), in_place = x;
        RmsNorm(x.data(), weight, offset, 1e-5f, features, out.data());
        RmsNorm(in_place.data(), weight, offset, 1e-5f, features, in_place.data());
        reference::RmsNorm(x.data(), weight, offset, 1e-5f, features, expected.data(), FusesMultiplyAdd());
        ASSERT_EQ(FirstDifferenceButNaN(out, expected), out.size());
        ASSERT_EQ(FirstDifferenceButNaN(in_place, expected), out.size());
        for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
          double sum = 0;
          for (uint64_t i = lane; i < x.size(); i += kTileTokens) sum += static_cast<double>(x[i]) * x[i];
          const double r = 1 / std::sqrt(sum / static_cast<double>(features) + 1e-5f);
          for (uint64_t i = 0; i < features; ++i) {
            const double truth = x[i * kTileTokens + lane] * r * (form == 0 ? 1.0 : weight[i] + double{offset});
            // Four roundings, and half the error of the sum of squares: 2^-24 sqrt(features / 4) at its worst.
            ASSERT_NEAR(out[i * kTileTokens + lane], truth, std::fabs(truth) * 3e-6);
          }
        }
      });
    }
  }
}

TEST(LayerOps, Rope) {
  for (const uint64_t head_dim : {2, 6, 64, 80}) {
    for (const uint64_t rotary_dim : {uint64_t{0}, uint64_t{2}, head_dim / 4 * 2, head_dim}) {
      SCOPED_TRACE(std::to_string(rotary_dim) + " of " + std::to_string(head_dim));
      constexpr uint64_t kHeads = 3;
      const TileFloats x = NormalTiles(kHeads * head_dim * kTileTokens, 7);
      TileFloats cos(std::max<uint64_t>(rotary_dim / 2, 1) * kTileTokens), sin(cos.size());
      for (size_t i = 0; i < cos.size(); ++i) {
        cos[i] = std::cos(static_cast<float>(i)), sin[i] = std::sin(static_cast<float>(i));
      }
      ForEachTarget([&] {
        TileFloats out = x, expected = x;
        Rope(out.data(), kHeads, head_dim, rotary_dim, cos.data(), sin.data());
        reference::Rope(expected.data(), kHeads, head_dim, rotary_dim, cos.data(), sin.data(), FusesMultiplyAdd());
        ASSERT_EQ(FirstDifferenceButNaN(out, expected), out.size());
        const uint64_t half = rotary_dim / 2;
        for (uint64_t head = 0; head < kHeads; ++head) {
          for (uint64_t i = 0; i < head_dim; ++i) {
            const uint64_t at = (head * head_dim + i) * kTileTokens + 5;
            const uint64_t pair = i < half ? at + half * kTileTokens : at - half * kTileTokens;
            const uint64_t table = half == 0 ? 0 : i % half * kTileTokens + 5;
            const double truth =
                i >= rotary_dim ? x[at]
                : i < half      ? static_cast<double>(x[at]) * cos[table] - static_cast<double>(x[pair]) * sin[table]
                                : static_cast<double>(x[at]) * cos[table] + static_cast<double>(x[pair]) * sin[table];
            ASSERT_NEAR(out[at], truth, 1e-6);
          }
        }
      });
    }
  }
}

TEST(LayerOps, RowsToTilesAndBack) {
  for (const uint64_t features : {1, 2, 15, 16, 17, 100}) {
    std::vector<std::vector<float>> rows;
    const float* from[kTileTokens];
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      rows.push_back(OddFloats(features, static_cast<uint32_t>(lane), false));
      from[lane] = lane == 3 ? nullptr : rows[lane].data();
    }
    TileFloats tile(features * kTileTokens, 42.0f);
    RowsToTile(from, features, tile.data());
    for (uint64_t i = 0; i < features; ++i) {
      for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
        ASSERT_EQ(tile[i * kTileTokens + lane], lane == 3 ? 0.0f : rows[lane][i]);
      }
    }
    std::vector<std::vector<float>> back(kTileTokens, std::vector<float>(features, 42.0f));
    float* to[kTileTokens];
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) to[lane] = lane == 7 ? nullptr : back[lane].data();
    TileToRows(tile.data(), features, to);
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      EXPECT_EQ(back[lane], lane == 7   ? std::vector<float>(features, 42.0f)
                            : lane == 3 ? std::vector<float>(features, 0.0f)
                                        : rows[lane]);
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
