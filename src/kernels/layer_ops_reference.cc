// The formulas of layer_ops.h and exp_tanh.h, one number at a time.
#include <algorithm>
#include <cmath>

#include "kernels/exp_tanh.h"
#include "kernels/layer_ops.h"
#include "kernels/multiply_add.h"

namespace sluice::kernels::reference {

float Exp(float x, bool fused) {
  using namespace exp_tanh;  // NOLINT: its constants
  if (std::isnan(x)) return x;
  const float bounded = std::min(std::max(x, kExpLowest), kExpHighest);
  const float n = std::nearbyint(bounded * kLog2E);
  const float r = MultiplyAdd(-n, kLn2Low, MultiplyAdd(-n, kLn2High, bounded, fused), fused);
  float p = kP[4];
  for (int i = 3; i >= 0; --i) p = MultiplyAdd(r, p, kP[i], fused);
  const float e = MultiplyAdd(r * r, p, r, fused) + 1.0f;
  const int exponent = static_cast<int>(n), half = exponent >> 1;
  return e * std::ldexp(1.0f, half) * std::ldexp(1.0f, exponent - half);
}

float Tanh(float x, bool fused) {
  using namespace exp_tanh;  // NOLINT: its constants
  const float magnitude = std::fabs(x);
  if (magnitude < kTanhSmall) {
    const float square = x * x;
    float q = kQ[4];
    for (int i = 3; i >= 0; --i) q = MultiplyAdd(square, q, kQ[i], fused);
    return std::copysign(MultiplyAdd(square * magnitude, q, magnitude, fused), x);
  }
  return std::copysign(1.0f - 2.0f / (Exp(2 * magnitude, fused) + 1.0f), x);
}

void RmsNorm(const float* in, const float* weight, float weight_offset, float epsilon, uint64_t features, float* out,
             bool fused) {
  for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
    float sums[4] = {};
    for (uint64_t i = 0; i < features; ++i) {
      const float x = in[i * kTileTokens + lane];
      sums[i % 4] = MultiplyAdd(x, x, sums[i % 4], fused);
    }
    const float mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(features);
    const float r = 1.0f / std::sqrt(mean + epsilon);
    for (uint64_t i = 0; i < features; ++i) {
      const float w = weight == nullptr ? 1.0f : weight[i] + weight_offset;
      out[i * kTileTokens + lane] = in[i * kTileTokens + lane] * r * w;
    }
  }
}

void Rope(float* x, uint64_t num_heads, uint64_t head_dim, uint64_t rotary_dim, const float* cos, const float* sin,
          bool fused) {
  const uint64_t half = rotary_dim / 2;
  for (uint64_t head = 0; head < num_heads; ++head) {
    for (uint64_t i = 0; i < half; ++i) {
      for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
        float* const first = x + (head * head_dim + i) * kTileTokens + lane;
        float* const second = first + half * kTileTokens;
        const float a = *first, b = *second;
        const float c = cos[i * kTileTokens + lane], s = sin[i * kTileTokens + lane];
        *first = MultiplyAdd(-b, s, a * c, fused);
        *second = MultiplyAdd(a, s, b * c, fused);
      }
    }
  }
}

float SiluMultiply(float gate, float up, bool fused) { return gate / (1.0f + Exp(-gate, fused)) * up; }

float GeluTanhMultiply(float gate, float up, bool fused) {
  const float inner = 0.797884561f * MultiplyAdd(0.044715f * (gate * gate), gate, gate, fused);
  return 0.5f * gate * (1.0f + Tanh(inner, fused)) * up;
}

float SoftCap(float x, float cap, bool fused) { return cap * Tanh(x / cap, fused); }

}  // namespace sluice::kernels::reference
