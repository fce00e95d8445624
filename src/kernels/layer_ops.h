// What a layer does beside products and attention, on tiles (tile.h), f32. Pointers are to 64-byte-aligned features
// unless said; in place is allowed (out equal to an input) but no other overlap. Thread-safe.
#pragma once

#include <cstdint>

#include "kernels/tile.h"

namespace sluice::kernels {

// out_i = (x_i r) (weight_i + weight_offset),  r = 1 / sqrt(mean_i x_i^2 + epsilon)   (Zhang and Sennrich, 1910.07467)
// over features of one tile, [features][16]. weight_offset: 1 for Gemma, else 0. weight may be unaligned; null: 1.
// Order of the sum of squares: four sums, of features i = 0, 1, 2, 3 mod 4, by fused multiply-add, then (0+1)+(2+3).
// A norm over each head (QK norm) is a call for each head.
void RmsNorm(const float* in, const float* weight, float weight_offset, float epsilon, uint64_t features, float* out);

// Rotary embedding in transformers' half-split form, in place: x is [num_heads][head_dim][16]; with half =
// rotary_dim / 2, for i < half (fused multiply-add last)
//   x_i, x_{i+half} = x_i cos_i - x_{i+half} sin_i,  x_{i+half} cos_i + x_i sin_i
// Features from rotary_dim on stay. cos and sin: [half][16], of each lane's position, any scaling already in them.
void Rope(float* x, uint64_t num_heads, uint64_t head_dim, uint64_t rotary_dim, const float* cos, const float* sin);

// Elementwise over `count` floats, a multiple of 16.
void SiluMultiply(const float* gate, const float* up, uint64_t count, float* out);  // gate / (1 + e^-gate) * up
// 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) * up: "gelu_pytorch_tanh"
void GeluTanhMultiply(const float* gate, const float* up, uint64_t count, float* out);
void AddTiles(const float* a, const float* b, uint64_t count, float* out);
void ScaleTiles(const float* in, float scale, uint64_t count, float* out);
void SoftCap(const float* in, float cap, uint64_t count, float* out);  // cap tanh(x / cap)

// e^x and tanh x, within 2 ulp; exact at 0 and where the result is infinite, 0 or 1; NaN stays NaN.
void Exp(const float* in, uint64_t count, float* out);
void Tanh(const float* in, uint64_t count, float* out);

// 16 rows of `features` floats (embeddings; unaligned) to a tile [features][16]. A null row becomes zeros.
void RowsToTile(const float* const (&rows)[kTileTokens], uint64_t features, float* tile);
// A tile, or features [0, features) of one, to rows. A null row is not written.
void TileToRows(const float* tile, uint64_t features, float* const (&rows)[kTileTokens]);

namespace reference {
float Exp(float x, bool fused);
float Tanh(float x, bool fused);
void RmsNorm(const float* in, const float* weight, float weight_offset, float epsilon, uint64_t features, float* out,
             bool fused);
void Rope(float* x, uint64_t num_heads, uint64_t head_dim, uint64_t rotary_dim, const float* cos, const float* sin,
          bool fused);
float SiluMultiply(float gate, float up, bool fused);
float GeluTanhMultiply(float gate, float up, bool fused);
float SoftCap(float x, float cap, bool fused);
}  // namespace reference

}  // namespace sluice::kernels
