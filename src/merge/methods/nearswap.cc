// nearswap: the base where another model is far from it, the other where it is near.
//
//   out = w x + (1 - w) b,   w = min(1, t / max(|b - x|, 1e-6))        for each number, b the base
//
// Source: alchemonaut, QuartetAnemoi-70B-t0.0001 (the model card), as mergekit 0.1.4 computes it.
//
// Deliberate differences from mergekit: none in f32, where the bits are mergekit's; otherwise inputs are f32 as stored,
// with one rounding at the end.
#include <bit>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/mergekit_nodes.h"
#include "kernels/near_swap.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kT };

class NearswapNode final : public graph::Node {
 public:
  NearswapNode(const graph::Node* base, const graph::Node* x, float t)
      : Node(fmt::format("nearswap {:08x}", std::bit_cast<uint32_t>(t)), quant::F32(), base->num_elements(), {base, x}),
        t_(t) {}

  void Compute(const graph::ComputeArgs& args) const override {
    float base_copy[arithmetic::kCopyElements], x_copy[arithmetic::kCopyElements], out_copy[arithmetic::kCopyElements];
    const bool out_aligned = arithmetic::IsFloatAligned(args.out);
    arithmetic::ForAlignedParts(
        args.range.size(), out_aligned && arithmetic::AreFloatAligned(args.in), [&](uint64_t first, uint64_t count) {
          const float* base = arithmetic::FloatsAt(args.in[0], first, count, base_copy);
          const float* x = arithmetic::FloatsAt(args.in[1], first, count, x_copy);
          uint8_t* const place = args.out + first * sizeof(float);
          kernels::SwapWhereNear(base, x, t_, count, out_aligned ? reinterpret_cast<float*>(place) : out_copy);
          if (!out_aligned) std::memcpy(place, out_copy, count * sizeof(float));
        });
  }
  double NanosecondsPerElement() const override { return 0.4; }

 private:
  float t_;
};

const graph::Node* Build(const BuildArgs& args) {
  return args.graph->Add(
      std::make_unique<NearswapNode>(args.base, args.models[0].node, static_cast<float>((*args.parameters)[kT])));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  return arithmetic::AddMergekitNearswap(args.graph, arithmetic::WorkingTypeOf(args.working), args.base,
                                         args.models[0].node, static_cast<float>((*args.parameters)[kT]));
}

}  // namespace

const Method& nearswap() {
  static const Method method = {
      .name = "nearswap",
      .summary = "The base, drawn to another model where the two are near each other.",
      .formula = "out = w x + (1 - w) b,   w = min(1, t / max(|b - x|, 1e-6))        for each number, b the base",
      .paper = "alchemonaut, QuartetAnemoi-70B-t0.0001 (model card), as mergekit 0.1.4 computes it.",
      .differences = "f32 throughout and one rounding at the end; with dtype float32 the bits are mergekit's.",
      .parameters = {{.name = "t",
                      .scope = ParameterScope::kRecipe,
                      .min = 0,
                      .help = "how near is near: numbers that differ by no more are the other model's"}},
      .needs_base = true,
      .min_models = 1,
      .max_models = 1,
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
