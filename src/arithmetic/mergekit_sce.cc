#include "arithmetic/mergekit_sce.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/topk_fact.h"
#include "arithmetic/torch_sum.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

static_assert(kColumns == kTileFloats);

constexpr uint64_t kMeanLanes = 8;  // torch takes the mean of halves, too, in f32

class WeightsFold final : public graph::Fold {
 public:
  WeightsFold(WorkingType type, uint64_t num_elements, size_t num_models, int num_workers)
      : type_(type), num_elements_(num_elements) {
    for (size_t m = 0; m < num_models; ++m) {
      squares_.push_back(std::make_unique<TorchSum>(num_elements, kMeanLanes, num_workers));
    }
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    alignas(64) float tile[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
        for (size_t m = 0; m < squares_.size(); ++m) {
          LoadTile(in[m], first, piece.size(), tile);
          ForTile(tile, [&](uint64_t i) { return RoundTo<kType>(tile[i] * tile[i]); });
          squares_[m]->Add(worker, piece.begin + first, tile, std::min(kTileFloats, piece.size() - first));
        }
      }
    });
  }

  bool Finish(graph::FactValue* value) override {
    std::vector<float> means;
    for (const auto& squares : squares_) {
      means.push_back(RoundTo(type_, squares->Finish() / static_cast<float>(num_elements_)));
    }
    const float sum = RoundTo(type_, TorchSumOf(means, LanesOf(type_)));
    // Compared as a Python number, not in the type.
    const bool are_equal = std::abs(static_cast<double>(sum)) < 1e-6;
    for (const float mean : means) {
      value->push_back(RoundTo(type_, are_equal ? 1 / static_cast<float>(means.size()) : mean / sum));
    }
    return true;
  }

 private:
  const WorkingType type_;
  const uint64_t num_elements_;
  std::vector<std::unique_ptr<TorchSum>> squares_;  // by model
};

// Welford's, model by model; torch keeps the mean and the sum in f64.
class VarianceNode final : public graph::Node {
 public:
  VarianceNode(WorkingType type, const std::vector<const graph::Node*>& inputs)
      : Node(fmt::format("torch variance {}", static_cast<int>(type)), quant::F32(), inputs[0]->num_elements(), inputs),
        type_(type) {}

  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    const auto num_models = static_cast<double>(args.in.size());
    alignas(64) float tile[kTileFloats];
    for (uint64_t first = 0; first < count; first += kTileFloats) {
      double mean[kTileFloats] = {}, sum[kTileFloats] = {};
      for (size_t m = 0; m < args.in.size(); ++m) {
        LoadTile(args.in[m], first, count, tile);
        const double seen = static_cast<double>(m) + 1;
        for (uint64_t i = 0; i < kTileFloats; ++i) {
          const double value = static_cast<double>(tile[i]), before = value - mean[i];
          mean[i] += before / seen;
          sum[i] += before * (value - mean[i]);
        }
      }
      WithType(type_, [&]<WorkingType kType>() {
        ForTile(tile, [&](uint64_t i) { return RoundTo<kType>(static_cast<float>(sum[i] / num_models)); });
      });
      StoreTile(tile, first, count, args.out);
    }
  }
  double NanosecondsPerElement() const override { return 2.0 * static_cast<double>(inputs().size()); }

 private:
  WorkingType type_;
};

class SceMixNode final : public graph::Node {
 public:
  SceMixNode(WorkingType type, const std::vector<const graph::Node*>& inputs)
      : Node(fmt::format("mergekit sce {}", static_cast<int>(type)), quant::F32(), inputs[0]->num_elements(), inputs),
        type_(type) {
    AddFact(std::make_unique<SceWeightsFact>(type, std::vector<const graph::Node*>(inputs.begin() + 1, inputs.end())));
  }

  uint64_t ScratchBytes() const override { return 2 * (inputs().size() - 1) * kTileFloats * sizeof(float); }
  void Compute(const graph::ComputeArgs& args) const override {
    WithType(type_, [&]<WorkingType kType>() { ComputeAs<kType>(args); });
  }
  double NanosecondsPerElement() const override { return 1 + 1.5 * static_cast<double>(inputs().size() - 1); }

 private:
  template <WorkingType kType>
  void ComputeAs(const graph::ComputeArgs& args) const {
    const uint64_t count = args.range.size(), num_models = inputs().size() - 1;
    auto* const floats = reinterpret_cast<float*>(args.scratch);
    std::vector<float*> deltas, weights;
    for (uint64_t m = 0; m < num_models; ++m) {
      deltas.push_back(floats + m * kTileFloats);
      weights.push_back(floats + (num_models + m) * kTileFloats);
    }
    const std::vector<const float*> all_deltas(deltas.begin(), deltas.end()),
        all_weights(weights.begin(), weights.end());
    const float least = RoundTo<kType>(1e-6f);
    alignas(64) float base[kTileFloats], mixed[kTileFloats], divisor[kTileFloats];
    for (uint64_t first = 0; first < count; first += kTileFloats) {
      const uint64_t column = args.range.begin + first;
      const auto sum_over_models = [&](const std::vector<const float*>& tiles, float* sum) {
        SumOverModels(tiles, column, num_elements(), LanesOf(kType), sum);
        ForTile(sum, [&](uint64_t i) { return RoundTo<kType>(sum[i]); });
      };
      for (uint64_t m = 0; m < num_models; ++m) LoadTile(args.in[m + 1], first, count, deltas[m]);
      sum_over_models(all_deltas, mixed);
      // A delta that does not agree is multiplied by 0, which NaN and infinity outlive.
      for (uint64_t m = 0; m < num_models; ++m) {
        float *const delta = deltas[m], *const weight = weights[m];
        const auto of_model = static_cast<float>((*args.facts[0])[m]);
        ForTile(weight,
                [&](uint64_t i) { return of_model * ((mixed[i] >= 0 ? delta[i] > 0 : delta[i] < 0) ? 1.0f : 0.0f); });
        ForTile(delta, [&](uint64_t i) { return RoundTo<kType>(delta[i] * weight[i]); });
      }
      sum_over_models(all_deltas, mixed);
      sum_over_models(all_weights, divisor);
      LoadTile(args.in[0], first, count, base);
      ForTile(mixed, [&](uint64_t i) {
        const float merged = RoundTo<kType>(mixed[i] / (divisor[i] < least ? least : divisor[i]));
        return RoundTo<kType>(base[i] + merged);
      });
      StoreTile(mixed, first, count, args.out);
    }
  }

  WorkingType type_;
};

}  // namespace

SceWeightsFact::SceWeightsFact(WorkingType type, std::vector<const graph::Node*> deltas)
    : Fact(fmt::format("mergekit sce weights {}", static_cast<int>(type)), std::move(deltas)), type_(type) {}

uint64_t SceWeightsFact::StateBytes(int num_workers) const {
  return sizeof(WeightsFold) + inputs().size() * TorchSum::StateBytes(num_elements(), kMeanLanes, num_workers) + 256;
}

std::unique_ptr<graph::Fold> SceWeightsFact::Begin(int num_workers) const {
  return std::make_unique<WeightsFold>(type_, num_elements(), inputs().size(), num_workers);
}

const graph::Node* AddTorchVariance(graph::Graph* graph, WorkingType type,
                                    const std::vector<const graph::Node*>& inputs) {
  return graph->Add(std::make_unique<VarianceNode>(type, inputs));
}

const graph::Node* AddMergekitSce(graph::Graph* graph, WorkingType type, double select_topk, const graph::Node* base,
                                  const std::vector<const graph::Node*>& x) {
  std::vector<const graph::Node*> deltas;
  for (const graph::Node* node : x) deltas.push_back(AddMergekitDelta(graph, type, node, base));
  if (select_topk <= 0) {
    for (const graph::Node*& delta : deltas) delta = AddMergekitProduct(graph, type, delta, 0);
  } else if (select_topk < 1) {
    const graph::Node* const kept = AddTopkMask(graph, AddTorchVariance(graph, type, deltas), select_topk);
    for (const graph::Node*& delta : deltas) delta = AddMergekitProductOf(graph, type, delta, kept);
  }
  std::vector<const graph::Node*> inputs = {base};
  inputs.insert(inputs.end(), deltas.begin(), deltas.end());
  return graph->Add(std::make_unique<SceMixNode>(type, inputs));
}

}  // namespace sluice::arithmetic
