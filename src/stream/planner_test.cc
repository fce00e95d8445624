// The smallest budget that Open accepts is enough.
#include "stream/planner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "base/units.h"
#include "stream/sink.h"
#include "stream/testing/memory_model.h"

namespace sluice::stream {
namespace {

using graph::Node;
using tests::Collector;
using tests::FunctionGroups;
using tests::Model;
using tests::Options;

Result<void> PumpInLeastMemory(const GroupSource& groups, const StreamOptions& options, Collector* collector) {
  std::unique_ptr<MemoryBudget> budget;
  SLUICE_ASSIGN(const std::unique_ptr<Stream> stream, tests::OpenInLeastMemory(groups, options, &budget));
  Sink* sinks[] = {collector};
  return Pump(*stream, sinks);
}

// Tensors that are one tile at the largest size and at the smallest take more of the smaller slots.
TEST(Planner, ManySmallTensorsInLockstepFitInTheSmallestBudget) {
  std::vector<std::unique_ptr<Model>> models;
  for (uint32_t i = 0; i < 12; ++i) models.push_back(std::make_unique<Model>(std::vector<uint64_t>{60000}, i));
  const FunctionGroups groups(1, [&](size_t, graph::Graph* graph) {
    std::vector<const Node*> outs;
    for (const auto& model : models) outs.push_back(model->Add(0, graph));
    return outs;
  });
  StreamOptions options = Options(nullptr);
  options.max_tile_bytes = kMiB;
  Collector collector;
  const auto pumped = PumpInLeastMemory(groups, options, &collector);
  ASSERT_TRUE(pumped) << pumped.error().ToString();
  ASSERT_EQ(collector.data[0].size(), models.size());
  for (size_t i = 0; i < models.size(); ++i) {
    ASSERT_EQ(collector.data[0][i].size(), 60000u);
    EXPECT_EQ(collector.data[0][i][59999], models[i]->Value(0, 59999));
  }
}

class CountFact final : public graph::Fact {
 public:
  explicit CountFact(const Node* x) : Fact("count", {x}) {}
  uint64_t StateBytes(int) const override { return 64; }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override {
    class CountFold final : public graph::Fold {
     public:
      void Add(int, Range piece, std::span<const View>) override { count_ += piece.size(); }
      bool Finish(graph::FactValue* value) override {
        *value = {static_cast<double>(count_)};
        return true;
      }

     private:
      std::atomic<uint64_t> count_ = 0;
    };
    return std::make_unique<CountFold>();
  }
};

// x, unless the count of `looked_at` is not x's.
class CheckedNode final : public Node {
 public:
  CheckedNode(const Node* x, const Node* looked_at) : Node("checked", x->encoding(), x->num_elements(), {x}) {
    AddFact(std::make_unique<CountFact>(looked_at));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const bool good = args.facts[0]->at(0) == static_cast<double>(num_elements());
    std::memset(args.out, 0, encoding().BytesOf(args.range.size()));
    if (good) std::memcpy(args.out, args.in[0].data, encoding().BytesOf(args.range.size()));
  }
  double NanosecondsPerElement() const override { return 1; }
};

// A fact that looks at wider elements than any that the out is computed from.
TEST(Planner, TilesHoldWhatOnlyFactsLookAt) {
  const Model x({3 * 65536}, 1), wide({3 * 65536}, 2);
  const FunctionGroups groups(1, [&](size_t, graph::Graph* graph) {
    const Node* narrow = graph->AddStored(x.source, x.offsets[0], quant::BF16(), 3 * 65536);
    const Node* checked = graph->Add(std::make_unique<CheckedNode>(narrow, wide.Add(0, graph)));
    return std::vector<const Node*>{graph->AddCast(checked, quant::F32())};
  });
  const FunctionGroups bare(1, [&](size_t, graph::Graph* graph) {
    const Node* narrow = graph->AddStored(x.source, x.offsets[0], quant::BF16(), 3 * 65536);
    return std::vector<const Node*>{graph->Add(std::make_unique<CheckedNode>(narrow, wide.Add(0, graph)))};
  });
  graph::Graph graph;
  std::vector<const Node*> outs;
  bare.Build(0, &graph, &outs);
  EXPECT_EQ(TileElements(outs, 512 * kKiB, 0), 2 * 65536u);  // of four bytes, not of two
  StreamOptions options = Options(nullptr);
  options.max_tile_bytes = kMiB;
  Collector collector;
  const auto pumped = PumpInLeastMemory(groups, options, &collector);
  ASSERT_TRUE(pumped) << pumped.error().ToString();
  EXPECT_EQ(collector.data[0][0].size(), 3 * 65536u);
}

}  // namespace
}  // namespace sluice::stream
