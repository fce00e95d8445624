#include "arithmetic/mergekit_nodes.h"

#include <bit>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/torch_sum.h"

namespace sluice::arithmetic {
namespace {

static_assert(kColumns == kTileFloats);

std::vector<float> Rounded(WorkingType type, std::vector<float> values) {
  for (float& value : values) value = RoundTo(type, value);
  return values;
}

std::string BitsText(const std::vector<float>& values) {
  std::string text;
  for (const float value : values) text += fmt::format(" {:08x}", std::bit_cast<uint32_t>(value));
  return text;
}

// Of one or two inputs, element by element: tile(type, in_0, in_1, out).
template <class Tile>
class ElementwiseNode final : public graph::Node {
 public:
  ElementwiseNode(const std::string& description, WorkingType type, std::vector<const graph::Node*> inputs,
                  const Tile& tile)
      : Node(fmt::format("mergekit {} {}", description, static_cast<int>(type)), quant::F32(),
             inputs[0]->num_elements(), inputs),
        type_(type),
        tile_(tile) {}

  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    alignas(64) float in_0[kTileFloats], in_1[kTileFloats], out[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < count; first += kTileFloats) {
        LoadTile(args.in[0], first, count, in_0);
        if (args.in.size() > 1) LoadTile(args.in[1], first, count, in_1);
        tile_.template operator()<kType>(in_0, in_1, out);
        StoreTile(out, first, count, args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 0.8; }

 private:
  WorkingType type_;
  Tile tile_;
};

template <class Tile>
const graph::Node* AddElementwise(graph::Graph* graph, const std::string& description, WorkingType type,
                                  std::vector<const graph::Node*> inputs, const Tile& tile) {
  return graph->Add(std::make_unique<ElementwiseNode<Tile>>(description, type, std::move(inputs), tile));
}

// What is summed over models in tiles, and the result.
class SumOverInputs {
 public:
  SumOverInputs(WorkingType type, uint64_t num_columns) : lanes_(LanesOf(type)), num_columns_(num_columns) {}
  // The sum of the tiles' column first_column + i, rounded.
  template <WorkingType kType>
  void Add(std::span<const float* const> tiles, uint64_t first_column, float* sum) const {
    SumOverModels(tiles, first_column, num_columns_, lanes_, sum);
    ForTile(sum, [&](uint64_t i) { return RoundTo<kType>(sum[i]); });
  }

 private:
  uint64_t lanes_, num_columns_;
};

class LinearNode final : public graph::Node {
 public:
  LinearNode(WorkingType type, std::vector<float> weights, bool normalize, std::vector<const graph::Node*> inputs)
      : Node(fmt::format("mergekit linear {} {}{}", static_cast<int>(type), normalize, BitsText(weights)), quant::F32(),
             inputs[0]->num_elements(), inputs),
        type_(type),
        weights_(std::move(weights)),
        normalize_(normalize),
        divisor_(RoundTo(type, TorchSumOf(weights_, LanesOf(type)))) {
    SLUICE_CHECK(inputs.size() == weights_.size());
  }

  uint64_t ScratchBytes() const override { return weights_.size() * kTileFloats * sizeof(float); }

  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    auto* const products = reinterpret_cast<float*>(args.scratch);
    std::vector<const float*> tiles;
    for (size_t m = 0; m < weights_.size(); ++m) tiles.push_back(products + m * kTileFloats);
    alignas(64) float sum[kTileFloats];
    const SumOverInputs over_models(type_, num_elements());
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < count; first += kTileFloats) {
        for (size_t m = 0; m < weights_.size(); ++m) {
          float* const product = products + m * kTileFloats;
          LoadTile(args.in[m], first, count, product);
          ForTile(product, [&, weight = weights_[m]](uint64_t i) { return RoundTo<kType>(product[i] * weight); });
        }
        over_models.Add<kType>(tiles, args.range.begin + first, sum);
        if (normalize_) ForTile(sum, [&](uint64_t i) { return RoundTo<kType>(sum[i] / divisor_); });
        StoreTile(sum, first, count, args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 0.5 + 0.6 * static_cast<double>(weights_.size()); }

 private:
  WorkingType type_;
  std::vector<float> weights_;
  bool normalize_;
  float divisor_;
};

class MixNode final : public graph::Node {
 public:
  MixNode(const MergekitMix& mix, const std::vector<const graph::Node*>& inputs)
      : Node(fmt::format("mergekit mix {} {} {} {:016x}{}", static_cast<int>(mix.type), mix.consensus, mix.normalize,
                         std::bit_cast<uint64_t>(mix.lambda), BitsText(mix.weights)),
             quant::F32(), inputs[0]->num_elements(), inputs),
        mix_(mix) {
    SLUICE_CHECK(inputs.size() == mix_.weights.size() + 1);
    if (!mix_.consensus) {
      divisor_ = RoundTo(mix_.type, TorchSumOf(mix_.weights, LanesOf(mix_.type)));
      // The bound, too, is in the working type: 0 in f16, so that nothing lies under it.
      if (std::abs(divisor_) < RoundTo(mix_.type, 1e-8f)) divisor_ = 1;
    }
  }

  uint64_t ScratchBytes() const override { return 2 * mix_.weights.size() * kTileFloats * sizeof(float); }

  void Compute(const graph::ComputeArgs& args) const override {
    WithType(mix_.type, [&]<WorkingType kType>() { ComputeAs<kType>(args); });
  }
  double NanosecondsPerElement() const override { return 1 + 1.2 * static_cast<double>(mix_.weights.size()); }

 private:
  template <WorkingType kType>
  void ComputeAs(const graph::ComputeArgs& args) const {
    const uint64_t count = args.range.size(), num_models = mix_.weights.size();
    const SumOverInputs over_models(kType, num_elements());
    auto* const floats = reinterpret_cast<float*>(args.scratch);
    std::vector<float*> products, weights;
    for (uint64_t m = 0; m < num_models; ++m) {
      products.push_back(floats + m * kTileFloats);
      weights.push_back(floats + (num_models + m) * kTileFloats);
    }
    const std::vector<const float*> all_products(products.begin(), products.end()),
        all_weights(weights.begin(), weights.end());
    alignas(64) float base[kTileFloats], mixed[kTileFloats], divisor[kTileFloats];
    const auto lambda = static_cast<float>(mix_.lambda);
    for (uint64_t first = 0; first < count; first += kTileFloats) {
      const uint64_t column = args.range.begin + first;
      LoadTile(args.in[0], first, count, base);
      for (uint64_t m = 0; m < num_models; ++m) {
        float* const product = products[m];
        LoadTile(args.in[m + 1], first, count, product);
        ForTile(product, [&, weight = mix_.weights[m]](uint64_t i) { return RoundTo<kType>(product[i] * weight); });
      }
      over_models.Add<kType>(all_products, column, mixed);
      if (mix_.consensus) {
        // Of a NaN the sign is neither; a product that does not agree is multiplied by 0, which NaN and infinity
        // outlive.
        for (uint64_t m = 0; m < num_models; ++m) {
          float *const product = products[m], *const weight = weights[m];
          const auto agrees = [&](uint64_t i) {
            return (mixed[i] >= 0 ? product[i] > 0 : product[i] < 0) ? 1.0f : 0.0f;
          };
          ForTile(weight, [&](uint64_t i) { return agrees(i); });
          ForTile(product, [&](uint64_t i) { return product[i] * weight[i]; });
          ForTile(weight, [&, value = mix_.weights[m]](uint64_t i) { return weight[i] * value; });
        }
        over_models.Add<kType>(all_products, column, mixed);
      }
      if (mix_.normalize && mix_.consensus) {
        over_models.Add<kType>(all_weights, column, divisor);
        ForTile(mixed, [&](uint64_t i) { return RoundTo<kType>(mixed[i] / (divisor[i] == 0 ? 1 : divisor[i])); });
      } else if (mix_.normalize) {
        ForTile(mixed, [&](uint64_t i) { return RoundTo<kType>(mixed[i] / divisor_); });
      }
      if (mix_.lambda != 1) ForTile(mixed, [&](uint64_t i) { return RoundTo<kType>(mixed[i] * lambda); });
      ForTile(mixed, [&](uint64_t i) { return RoundTo<kType>(base[i] + mixed[i]); });
      StoreTile(mixed, first, count, args.out);
    }
  }

  MergekitMix mix_;
  float divisor_ = 1;  // without consensus
};

}  // namespace

const graph::Node* AddMergekitDelta(graph::Graph* graph, WorkingType type, const graph::Node* x,
                                    const graph::Node* base) {
  return AddElementwise(graph, "delta", type, {x, base},
                        []<WorkingType kType>(const float* a, const float* b, float* out) {
                          ForTile(out, [&](uint64_t i) { return RoundTo<kType>(a[i] - b[i]); });
                        });
}

const graph::Node* AddMergekitSum(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                  const graph::Node* x) {
  return AddElementwise(graph, "sum", type, {base, x},
                        []<WorkingType kType>(const float* a, const float* b, float* out) {
                          ForTile(out, [&](uint64_t i) { return RoundTo<kType>(a[i] + b[i]); });
                        });
}

const graph::Node* AddMergekitMix(graph::Graph* graph, const MergekitMix& mix, const graph::Node* base,
                                  const std::vector<const graph::Node*>& deltas) {
  MergekitMix rounded = mix;
  rounded.weights = Rounded(mix.type, mix.weights);
  std::vector<const graph::Node*> inputs = {base};
  inputs.insert(inputs.end(), deltas.begin(), deltas.end());
  return graph->Add(std::make_unique<MixNode>(rounded, inputs));
}

const graph::Node* AddMergekitLinear(graph::Graph* graph, WorkingType type, const std::vector<float>& weights,
                                     bool normalize, const std::vector<const graph::Node*>& inputs) {
  return graph->Add(std::make_unique<LinearNode>(type, Rounded(type, weights), normalize, inputs));
}

const graph::Node* AddMergekitProduct(graph::Graph* graph, WorkingType type, const graph::Node* x, float scale) {
  const std::string description = fmt::format("product {:08x}", std::bit_cast<uint32_t>(scale));
  return AddElementwise(graph, description, type, {x},
                        [scale]<WorkingType kType>(const float* a, const float*, float* out) {
                          ForTile(out, [&](uint64_t i) { return RoundTo<kType>(a[i] * scale); });
                        });
}

const graph::Node* AddMergekitProductOf(graph::Graph* graph, WorkingType type, const graph::Node* a,
                                        const graph::Node* b) {
  return AddElementwise(graph, "product of", type, {a, b},
                        []<WorkingType kType>(const float* x, const float* y, float* out) {
                          ForTile(out, [&](uint64_t i) { return RoundTo<kType>(x[i] * y[i]); });
                        });
}

// t / d is t times the reciprocal; torch's clamp lets NaN through.
const graph::Node* AddMergekitNearswap(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                       const graph::Node* x, float t) {
  const std::string description = fmt::format("nearswap {:08x}", std::bit_cast<uint32_t>(t));
  return AddElementwise(graph, description, type, {base, x},
                        [t]<WorkingType kType>(const float* a, const float* b, float* out) {
                          constexpr auto kRound = RoundTo<kType>;
                          const float least = kRound(1e-6f);
                          ForTile(out, [&](uint64_t i) {
                            const float difference = std::abs(kRound(a[i] - b[i]));
                            const float weight = kRound(kRound(1 / (difference < least ? least : difference)) * t);
                            const float within = weight < 0 ? 0.0f : weight > 1 ? 1.0f : weight;
                            return kRound(kRound(within * b[i]) + kRound(kRound(1 - within) * a[i]));
                          });
                        });
}

}  // namespace sluice::arithmetic
