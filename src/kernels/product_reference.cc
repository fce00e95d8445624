// The sum of product.h, one number at a time.
#include <cstring>
#include <vector>

#include "kernels/multiply_add.h"
#include "kernels/product.h"
#include "kernels/tile.h"

namespace sluice::kernels::reference {

void Product(const ProductArgs& args, bool fused) {
  std::vector<float> weights(args.columns);
  for (uint64_t r = 0; r < args.num_rows; ++r) {
    if (args.format.widen == nullptr) {
      std::memcpy(weights.data(), args.rows[r], args.columns * sizeof(float));
    } else {
      args.format.widen(args.rows[r], args.columns, weights.data());
    }
    for (uint64_t tile = 0; tile < args.num_tiles; ++tile) {
      for (uint64_t lane = 0; lane < kTileTokens; ++lane) {
        const float* in = args.in + tile * args.in_tile_floats + lane;
        float* out = args.out + tile * args.out_tile_floats + r * kTileTokens + lane;
        float sum = 0;
        for (uint64_t k = 0; k < args.columns; ++k) {
          sum = MultiplyAdd(weights[k], in[k * kTileTokens], sum, fused);
        }
        *out = args.bias == nullptr ? sum : sum + args.bias[r];
      }
    }
  }
}

}  // namespace sluice::kernels::reference
