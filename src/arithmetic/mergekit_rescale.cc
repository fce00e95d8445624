#include "arithmetic/mergekit_rescale.h"

#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"

namespace sluice::arithmetic {
namespace {

constexpr size_t kBefore = 0, kAfter = 1;

class SumsFold final : public graph::Fold {
 public:
  SumsFold(WorkingType type, uint64_t num_elements, int num_workers)
      : type_(type),
        before_(num_elements, LanesOf(type), num_workers),
        after_(num_elements, LanesOf(type), num_workers) {}

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    AddTo(&before_, worker, piece, in[0]);
    AddTo(&after_, worker, piece, in[1]);
  }
  bool Finish(graph::FactValue* value) override {
    *value = {RoundTo(type_, before_.Finish()), RoundTo(type_, after_.Finish())};
    return true;
  }

 private:
  static void AddTo(TorchSum* sum, int worker, graph::Range piece, const graph::View& view) {
    alignas(64) float tile[kTileFloats];
    for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
      LoadTile(view, first, piece.size(), tile);
      ForTile(tile, [&](uint64_t i) { return std::abs(tile[i]); });
      sum->Add(worker, piece.begin + first, tile, std::min(kTileFloats, piece.size() - first));
    }
  }

  const WorkingType type_;
  TorchSum before_, after_;
};

class SumsFact final : public graph::Fact {
 public:
  SumsFact(WorkingType type, const graph::Node* delta, const graph::Node* masked)
      : Fact(fmt::format("mergekit l1 {}", static_cast<int>(type)), {delta, masked}), type_(type) {}
  uint64_t StateBytes(int num_workers) const override {
    return sizeof(SumsFold) + 2 * TorchSum::StateBytes(num_elements(), LanesOf(type_), num_workers);
  }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<SumsFold>(type_, num_elements(), num_workers);
  }

 private:
  WorkingType type_;
};

class RescaleNode final : public graph::Node {
 public:
  RescaleNode(WorkingType type, const graph::Node* delta, const graph::Node* masked)
      : Node(fmt::format("mergekit rescale {}", static_cast<int>(type)), quant::F32(), masked->num_elements(),
             {masked}),
        type_(type) {
    AddFact(std::make_unique<SumsFact>(MaskType(type), delta, masked));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    const graph::FactValue& sums = *args.facts[0];
    const float scale = MergekitScale(MaskType(type_), sums[kBefore], sums[kAfter]);
    alignas(64) float tile[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < count; first += kTileFloats) {
        LoadTile(args.in[0], first, count, tile);
        ForTile(tile, [&](uint64_t i) { return RoundTo<kType>(tile[i] * scale); });
        StoreTile(tile, first, count, args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 0.5; }

 private:
  WorkingType type_;
};

}  // namespace

float MergekitScale(WorkingType type, double before, double after) {
  const auto all = static_cast<float>(before), kept = static_cast<float>(after);
  const float least = RoundTo(type, 1e-7f);
  return all < least || kept < least ? 1 : RoundTo(type, all / kept);
}

const graph::Node* AddMergekitRescale(graph::Graph* graph, WorkingType type, const graph::Node* delta,
                                      const graph::Node* masked) {
  return graph->Add(std::make_unique<RescaleNode>(type, delta, masked));
}

}  // namespace sluice::arithmetic
