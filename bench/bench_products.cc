// bench_products: the forward pass's kernels on one core, beside a loop of nothing but fused multiply-adds in the same
// run: GFLOP/s (10^9 multiplications and additions a second) and share of that loop's.
//
//   bench_products          a table
//   bench_products --json   the same figures as one JSON object
//
// A figure is the median of 9 runs of 40 ms or more, by the thread's CPU time, each beside a run of the loop: the share
// is the median of their quotients. Products: K columns, weights of each encoding as stored (in all 10 to 30 MB of
// numbers), 16, 64 and 512 tokens. Attention: all heads of a layer, causal, counting pairs of query and key that see
// each other.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.h"
#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"
#include "kernels/product.h"
#include "kernels/simd.h"
#include "kernels/tile.h"
#include "quant/encoding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "../bench/bench_products.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::bench {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// `rounds` steps of 12 fused multiply-adds that wait for nothing but themselves; returns the floating-point operations.
double FmaLoop(uint64_t rounds, float* numbers) {
  const hn::CappedTag<float, kernels::kTileTokens> df;
  using V = hn::Vec<decltype(df)>;
  constexpr int kSums = 12;
  const V x = hn::Set(df, numbers[0]), y = hn::Set(df, numbers[1]);
  V sums[kSums];
  // Each its own start: equal sums would be worked out once.
#pragma GCC unroll 12
  for (int i = 0; i < kSums; ++i) sums[i] = hn::Set(df, numbers[3 + i]);
  for (uint64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (V& sum : sums) sum = hn::MulAdd(x, y, sum);
  }
#pragma GCC unroll 12
  for (const V& sum : sums) numbers[2] += hn::GetLane(sum);
  return 2.0 * kSums * static_cast<double>(hn::Lanes(df) * rounds);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::bench {

HWY_EXPORT(FmaLoop);

namespace {

using kernels::kTileTokens;

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double FmaFlopsPerSecond() {
  float numbers[3 + 12] = {1.0f, 1e-30f, 0.0f};
  for (int i = 3; i < 15; ++i) numbers[i] = static_cast<float>(i);
  const double start = CpuSeconds();
  const double flops = HWY_DYNAMIC_DISPATCH(FmaLoop)(2'000'000, numbers);
  const double seconds = CpuSeconds() - start;
  asm volatile("" : : "r"(numbers) : "memory");
  return flops / seconds;
}

struct Figure {
  std::string kernel, encoding;
  uint64_t columns, tokens;
  double flops_per_second, of_fma;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Memory aligned as tiles are, of normal numbers.
class Tiles {
 public:
  explicit Tiles(uint64_t count, float deviation = 1)
      : floats_(static_cast<float*>(std::aligned_alloc(kernels::kTileAlignment, (count * 4 + 63) / 64 * 64))) {
    if (floats_ == nullptr) {
      std::fprintf(stderr, "bench_products: no memory for %llu floats\n", static_cast<unsigned long long>(count));
      std::exit(1);
    }
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, deviation);
    std::vector<float> some(4096);
    for (float& value : some) value = normal(random);
    for (uint64_t i = 0; i < count; ++i) floats_.get()[i] = some[i % some.size()];
  }
  float* data() { return floats_.get(); }

 private:
  struct Free {
    void operator()(float* floats) const { std::free(floats); }
  };
  std::unique_ptr<float[], Free> floats_;
};

class Bench {
 public:
  std::vector<Figure> Run() {
    for (const uint64_t columns : {576, 1536, 7168}) {
      for (const std::string_view encoding : {"F32", "BF16", "F16", "Q8_0", "Q4_1"}) Products(columns, encoding);
    }
    Attention(9, 3, 64, 512);
    Attention(32, 8, 128, 512);
    Attention(32, 8, 128, 4096);
    return std::move(figures_);
  }
  double fma() const { return Median(fma_); }

 private:
  void Add(Figure figure, double flops, const std::function<void()>& call) {
    std::vector<double> rates, shares;
    call();
    for (int run = 0; run < 9; ++run) {
      fma_.push_back(FmaFlopsPerSecond());
      const double start = CpuSeconds();
      double seconds = 0, calls = 0;
      while (seconds < 0.04) {
        call();
        ++calls;
        seconds = CpuSeconds() - start;
      }
      rates.push_back(flops * calls / seconds);
      shares.push_back(rates.back() / fma_.back());
    }
    figure.flops_per_second = Median(rates);
    figure.of_fma = Median(shares);
    figures_.push_back(figure);
  }

  void Products(uint64_t columns, std::string_view encoding_name) {
    const quant::EncodingInfo& encoding = *quant::EncodingByName(encoding_name);
    const uint64_t num_rows = columns == 7168 ? 1536 : columns == 576 ? 6144 : 4608;
    const uint64_t row_bytes = columns / encoding.block_elements * encoding.block_bytes;
    std::vector<uint8_t> weights(num_rows * row_bytes);
    // Random bits, but for exponents, and scales at the head of a block, that are small.
    std::mt19937 random(1);
    for (uint8_t& byte : weights) byte = static_cast<uint8_t>(random());
    for (uint64_t at = 0; at < weights.size(); at += encoding.block_bytes) {
      if (encoding.block_elements == 1) {
        weights[at + encoding.block_bytes - 1] = static_cast<uint8_t>(0x3c | (weights[at] & 0x80));
      } else {
        weights[at + 1] = weights[at + 3] = 0x20;
      }
    }
    std::vector<const uint8_t*> rows;
    for (uint64_t r = 0; r < num_rows; ++r) rows.push_back(weights.data() + r * row_bytes);
    kernels::WeightFormat format = {encoding.decode, encoding.block_elements, encoding.block_bytes};
    if (encoding_name == "F32") format.widen = nullptr;
    Tiles scratch(kernels::kProductScratchFloats);
    for (const uint64_t tokens : {16, 64, 512}) {
      const uint64_t tiles = tokens / kTileTokens;
      Tiles in(tokens * columns), out(tokens * num_rows);
      // Calls of not more than some 0.1 s, over all rows in turn.
      const uint64_t part = std::min(num_rows, std::max<uint64_t>(192, num_rows * 64 / tokens / 192 * 192));
      uint64_t row = 0;
      Add({"product", std::string(encoding_name), columns, tokens, 0, 0},
          2.0 * static_cast<double>(columns * tokens * part), [&] {
            kernels::Product({.rows = rows.data() + row,
                              .num_rows = part,
                              .columns = columns,
                              .format = format,
                              .in = in.data(),
                              .in_tile_floats = columns * kTileTokens,
                              .out = out.data() + row * kTileTokens,
                              .out_tile_floats = num_rows * kTileTokens,
                              .num_tiles = tiles,
                              .scratch = scratch.data()});
            row = row + 2 * part <= num_rows ? row + part : 0;
          });
    }
  }

  void Attention(uint64_t heads, uint64_t kv_heads, uint64_t head_dim, uint64_t tokens) {
    const uint64_t tiles = tokens / kTileTokens, group = heads / kv_heads;
    Tiles q(tokens * heads * head_dim), out(tokens * heads * head_dim), scratch(kernels::kAttentionScratchFloats);
    Tiles keys(tokens * kv_heads * head_dim), values(tokens * kv_heads * head_dim);
    std::vector<const float*> key_tiles, value_tiles;
    for (uint64_t tile = 0; tile < tiles; ++tile) {
      key_tiles.push_back(keys.data() + tile * kv_heads * head_dim * kTileTokens);
      value_tiles.push_back(values.data() + tile * kv_heads * head_dim * kTileTokens);
    }
    // Of long texts the last tiles, which see the most.
    const uint64_t first_tile = tiles > 32 ? tiles - 2 : 0;
    double pairs = 0;
    for (uint64_t position = first_tile * kTileTokens; position < tokens; ++position) {
      pairs += static_cast<double>(position + 1);
    }
    Add({"attention, " + std::to_string(heads) + " heads of " + std::to_string(head_dim) + ", " +
             std::to_string(kv_heads) + " of keys",
         "F32", 0, tokens, 0, 0},
        4 * pairs * static_cast<double>(heads * head_dim), [&] {
          for (uint64_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
            for (uint64_t tile = first_tile; tile < tiles; ++tile) {
              const uint64_t at = (tile * heads + kv_head * group) * head_dim * kTileTokens;
              kernels::Attention({.q = q.data() + at,
                                  .num_heads = group,
                                  .head_dim = head_dim,
                                  .query_tile = tile,
                                  .keys = key_tiles.data(),
                                  .values = value_tiles.data(),
                                  .first_feature = kv_head * head_dim,
                                  .scale = 0.1f,
                                  .out = out.data() + at,
                                  .scratch = scratch.data()});
            }
          }
        });
  }

  std::vector<Figure> figures_;
  std::vector<double> fma_;
};

void PrintTable(double fma, const std::vector<Figure>& figures) {
  std::printf("one core: %.1f GFLOP/s in a loop of fused multiply-adds\n\n", fma / 1e9);
  std::printf("%-44s %8s %6s %7s %9s %7s\n", "kernel", "encoding", "K", "tokens", "GFLOP/s", "of FMA");
  for (const Figure& f : figures) {
    std::printf("%-44s %8s %6llu %7llu %9.1f %7.2f\n", f.kernel.c_str(), f.encoding.c_str(),
                static_cast<unsigned long long>(f.columns), static_cast<unsigned long long>(f.tokens),
                f.flops_per_second / 1e9, f.of_fma);
  }
}

void PrintJson(double fma, const std::vector<Figure>& figures) {
  std::printf("{\"schema\":\"sluice/bench_products/v1\",\"fma_flops_per_second\":%.0f,\"figures\":[", fma);
  for (size_t i = 0; i < figures.size(); ++i) {
    const Figure& f = figures[i];
    std::printf(
        "%s{\"kernel\":\"%s\",\"encoding\":\"%s\",\"columns\":%llu,\"tokens\":%llu,\"flops_per_second\":%.0f,"
        "\"of_fma\":%.4f}",
        i == 0 ? "" : ",", f.kernel.c_str(), f.encoding.c_str(), static_cast<unsigned long long>(f.columns),
        static_cast<unsigned long long>(f.tokens), f.flops_per_second, f.of_fma);
  }
  std::printf("]}\n");
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  const bool json = argc == 2 && std::string_view(argv[1]) == "--json";
  if (argc > 1 && !json) {
    std::fprintf(stderr, "usage: bench_products [--json]\n");
    return 2;
  }
  sluice::bench::Bench bench;
  const std::vector<sluice::bench::Figure> figures = bench.Run();
  json ? sluice::bench::PrintJson(bench.fma(), figures) : sluice::bench::PrintTable(bench.fma(), figures);
  return 0;
}
#endif  // HWY_ONCE
