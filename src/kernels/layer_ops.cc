// What a layer does beside products and attention, 16 tokens at a time. All of it together is a few per cent of a pass.
#include "kernels/layer_ops.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_ops.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/exp_tanh-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As wide as there are: lanes never meet, so the width leaves no trace in the bits.
using DF = hn::CappedTag<float, kTileTokens>;
using VF = hn::Vec<DF>;
constexpr uint64_t kLanes = hn::MaxLanes(DF());

bool FusesMultiplyAdd() { return HWY_NATIVE_FMA; }

void RmsNorm(const float* in, const float* weight, float weight_offset, float epsilon, uint64_t features, float* out) {
  const DF df;
  const VF offset = hn::Set(df, weight_offset), one = hn::Set(df, 1.0f);
  for (uint64_t lane = 0; lane < kTileTokens; lane += kLanes) {
    const auto x = [&](uint64_t i) HWY_ATTR { return hn::Load(df, in + i * kTileTokens + lane); };
    VF sum_0 = hn::Zero(df), sum_1 = sum_0, sum_2 = sum_0, sum_3 = sum_0;
    uint64_t i = 0;
    for (; i + 4 <= features; i += 4) {
      sum_0 = hn::MulAdd(x(i), x(i), sum_0);
      sum_1 = hn::MulAdd(x(i + 1), x(i + 1), sum_1);
      sum_2 = hn::MulAdd(x(i + 2), x(i + 2), sum_2);
      sum_3 = hn::MulAdd(x(i + 3), x(i + 3), sum_3);
    }
    if (i < features) sum_0 = hn::MulAdd(x(i), x(i), sum_0);
    if (i + 1 < features) sum_1 = hn::MulAdd(x(i + 1), x(i + 1), sum_1);
    if (i + 2 < features) sum_2 = hn::MulAdd(x(i + 2), x(i + 2), sum_2);
    const VF sum = hn::Add(hn::Add(sum_0, sum_1), hn::Add(sum_2, sum_3));
    const VF mean = hn::Div(sum, hn::Set(df, static_cast<float>(features)));
    const VF r = hn::Div(one, hn::Sqrt(hn::Add(mean, hn::Set(df, epsilon))));
    for (i = 0; i < features; ++i) {
      const VF w = weight == nullptr ? one : hn::Add(hn::Set(df, weight[i]), offset);
      hn::Store(hn::Mul(hn::Mul(x(i), r), w), df, out + i * kTileTokens + lane);
    }
  }
}

void Rope(float* x, uint64_t num_heads, uint64_t head_dim, uint64_t rotary_dim, const float* cos, const float* sin) {
  const DF df;
  const uint64_t half_floats = rotary_dim / 2 * kTileTokens;
  for (uint64_t head = 0; head < num_heads; ++head) {
    float* const first = x + head * head_dim * kTileTokens;
    float* const second = first + half_floats;
    for (uint64_t i = 0; i < half_floats; i += kLanes) {
      const VF a = hn::Load(df, first + i), b = hn::Load(df, second + i);
      const VF c = hn::Load(df, cos + i), s = hn::Load(df, sin + i);
      hn::Store(hn::NegMulAdd(b, s, hn::Mul(a, c)), df, first + i);
      hn::Store(hn::MulAdd(a, s, hn::Mul(b, c)), df, second + i);
    }
  }
}

void SiluMultiply(const float* gate, const float* up, uint64_t count, float* out) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  for (uint64_t i = 0; i < count; i += kLanes) {
    const VF g = hn::Load(df, gate + i);
    const VF silu = hn::Div(g, hn::Add(one, exp_tanh::Exp(df, hn::Neg(g))));
    hn::Store(hn::Mul(silu, hn::Load(df, up + i)), df, out + i);
  }
}

void GeluTanhMultiply(const float* gate, const float* up, uint64_t count, float* out) {
  const DF df;
  const VF one = hn::Set(df, 1.0f), half = hn::Set(df, 0.5f);
  const VF cubic = hn::Set(df, 0.044715f), root = hn::Set(df, 0.797884561f);  // sqrt(2 / pi)
  for (uint64_t i = 0; i < count; i += kLanes) {
    const VF g = hn::Load(df, gate + i);
    const VF inner = hn::Mul(root, hn::MulAdd(hn::Mul(cubic, hn::Mul(g, g)), g, g));
    const VF gelu = hn::Mul(hn::Mul(half, g), hn::Add(one, exp_tanh::Tanh(df, inner)));
    hn::Store(hn::Mul(gelu, hn::Load(df, up + i)), df, out + i);
  }
}

void AddTiles(const float* a, const float* b, uint64_t count, float* out) {
  const DF df;
  for (uint64_t i = 0; i < count; i += kLanes) {
    hn::Store(hn::Add(hn::Load(df, a + i), hn::Load(df, b + i)), df, out + i);
  }
}

void ScaleTiles(const float* in, float scale, uint64_t count, float* out) {
  const DF df;
  const VF by = hn::Set(df, scale);
  for (uint64_t i = 0; i < count; i += kLanes) hn::Store(hn::Mul(hn::Load(df, in + i), by), df, out + i);
}

void SoftCap(const float* in, float cap, uint64_t count, float* out) {
  const DF df;
  const VF by = hn::Set(df, cap);
  for (uint64_t i = 0; i < count; i += kLanes) {
    hn::Store(hn::Mul(by, exp_tanh::Tanh(df, hn::Div(hn::Load(df, in + i), by))), df, out + i);
  }
}

void Exp(const float* in, uint64_t count, float* out) {
  const DF df;
  for (uint64_t i = 0; i < count; i += kLanes) hn::Store(exp_tanh::Exp(df, hn::Load(df, in + i)), df, out + i);
}

void Tanh(const float* in, uint64_t count, float* out) {
  const DF df;
  for (uint64_t i = 0; i < count; i += kLanes) hn::Store(exp_tanh::Tanh(df, hn::Load(df, in + i)), df, out + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(FusesMultiplyAdd);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(Rope);
HWY_EXPORT(SiluMultiply);
HWY_EXPORT(GeluTanhMultiply);
HWY_EXPORT(AddTiles);
HWY_EXPORT(ScaleTiles);
HWY_EXPORT(SoftCap);
HWY_EXPORT(Exp);
HWY_EXPORT(Tanh);

bool FusesMultiplyAdd() { return HWY_DYNAMIC_DISPATCH(FusesMultiplyAdd)(); }

void RmsNorm(const float* in, const float* weight, float weight_offset, float epsilon, uint64_t features, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(in, weight, weight_offset, epsilon, features, out);
}

void Rope(float* x, uint64_t num_heads, uint64_t head_dim, uint64_t rotary_dim, const float* cos, const float* sin) {
  SLUICE_CHECK(rotary_dim % 2 == 0 && rotary_dim <= head_dim);
  HWY_DYNAMIC_DISPATCH(Rope)(x, num_heads, head_dim, rotary_dim, cos, sin);
}

void SiluMultiply(const float* gate, const float* up, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(SiluMultiply)(gate, up, count, out);
}

void GeluTanhMultiply(const float* gate, const float* up, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(GeluTanhMultiply)(gate, up, count, out);
}

void AddTiles(const float* a, const float* b, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(AddTiles)(a, b, count, out);
}

void ScaleTiles(const float* in, float scale, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(ScaleTiles)(in, scale, count, out);
}

void SoftCap(const float* in, float cap, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(SoftCap)(in, cap, count, out);
}

void Exp(const float* in, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(Exp)(in, count, out);
}

void Tanh(const float* in, uint64_t count, float* out) {
  SLUICE_CHECK(count % kTileTokens == 0);
  HWY_DYNAMIC_DISPATCH(Tanh)(in, count, out);
}

// Sixteen features at a time: a cache line of each row, and 16 of the tile.
void RowsToTile(const float* const (&rows)[kTileTokens], uint64_t features, float* tile) {
  for (uint64_t first = 0; first < features; first += 16) {
    const uint64_t end = std::min(features, first + 16);
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      const float* row = rows[lane];
      for (uint64_t i = first; i < end; ++i) tile[i * kTileTokens + lane] = row == nullptr ? 0.0f : row[i];
    }
  }
}

void TileToRows(const float* tile, uint64_t features, float* const (&rows)[kTileTokens]) {
  for (uint64_t first = 0; first < features; first += 16) {
    const uint64_t end = std::min(features, first + 16);
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
      float* const row = rows[lane];
      if (row == nullptr) continue;
      for (uint64_t i = first; i < end; ++i) row[i] = tile[i * kTileTokens + lane];
    }
  }
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
