#include "stream/kept_values.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/testing/sanitizers.h"
#include "base/units.h"
#include "stream/testing/memory_model.h"

namespace sluice::stream {
namespace {

using graph::FactValue;
using graph::kBlockElements;
using graph::KeptNode;
using graph::kPieceElements;
using graph::Node;
using tests::Collector;
using tests::FunctionGroups;
using tests::Model;
using tests::Options;

quant::Encoding Bits() {
  static constexpr quant::EncodingInfo kInfo = {.name = "bits", .block_elements = 32, .block_bytes = 4};
  return quant::Encoding(&kInfo);
}

bool BitAt(const uint8_t* bits, uint64_t i) { return (bits[i / 8] >> i % 8 & 1) != 0; }

// Whether each element is positive, as a bit. Counts how often each piece is computed.
class PositiveNode final : public KeptNode {
 public:
  PositiveNode(const Node* x, std::vector<std::atomic<int>>* computed)
      : KeptNode("positive", Bits(), x->num_elements(), {x}), computed_(computed) {}
  void Compute(const graph::ComputeArgs& args) const override {
    ++(*computed_)[args.range.begin / kPieceElements];
    std::memset(args.out, 0, graph::BytesOfPiece(*this, args.range));
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      if (x > 0) args.out[i / 8] = static_cast<uint8_t>(args.out[i / 8] | 1u << i % 8);
    }
  }
  double NanosecondsPerElement() const override { return 1; }

 private:
  std::vector<std::atomic<int>>* computed_;
};

// How many bits are set, counted `passes` times.
class CountFact final : public graph::Fact {
 public:
  CountFact(const Node* bits, int passes) : Fact("count", {bits}), passes_(passes) {}
  int max_passes() const override { return passes_; }
  uint64_t StateBytes(int) const override { return 64; }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override { return std::make_unique<CountFold>(passes_); }

 private:
  class CountFold final : public graph::Fold {
   public:
    explicit CountFold(int passes) : passes_left_(passes) {}
    void Add(int, Range piece, std::span<const View> in) override {
      uint64_t count = 0;
      for (uint64_t i = 0; i < piece.size(); ++i) count += BitAt(in[0].data, i) ? 1 : 0;
      count_ += count;
    }
    bool Finish(FactValue* value) override {
      *value = {static_cast<double>(count_.exchange(0))};
      return --passes_left_ == 0;
    }

   private:
    std::atomic<uint64_t> count_ = 0;
    int passes_left_;
  };
  const int passes_;
};

// The positive elements, each plus how many there are.
class PickNode final : public Node {
 public:
  PickNode(const Node* x, const Node* bits, int passes) : Node("pick", quant::F32(), x->num_elements(), {x, bits}) {
    AddFact(std::make_unique<CountFact>(bits, passes));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      const float out = BitAt(args.in[1].data, i) ? x + static_cast<float>(args.facts[0]->at(0)) : 0;
      std::memcpy(args.out + 4 * i, &out, 4);
    }
  }
  double NanosecondsPerElement() const override { return 1; }
};

TEST(KeptValues, HasRoomByBlocks) {
  graph::Graph graph;
  const Model model({2 * kBlockElements + 100}, 1);
  std::vector<std::atomic<int>> unused(32);
  const PositiveNode node(model.Add(0, &graph), &unused), other(model.Add(0, &graph), &unused);
  auto arena = Arena::Make(3, graph::kKeptBlockBytes);
  ASSERT_TRUE(arena);
  KeptValues kept;
  kept.Add(&node);
  kept.TakeRoom(0, nullptr);
  EXPECT_EQ(kept.Find(&node, 0, {0, kPieceElements}).data, nullptr);
  kept.TakeRoom(0, arena->get());
  kept.TakeRoom(0, arena->get());  // it has it
  kept.TakeRoom(2, arena->get());
  EXPECT_EQ((*arena)->num_free(), 1u);

  const KeptValues::Place first = kept.Find(&node, 0, {0, kPieceElements});
  const KeptValues::Place second = kept.Find(&node, 0, {kPieceElements, 2 * kPieceElements});
  ASSERT_NE(first.data, nullptr);
  EXPECT_EQ(second.data, first.data + kPieceElements / 8);
  EXPECT_FALSE(first.known);
  kept.SetKnown(&node, {kPieceElements, 2 * kPieceElements});
  EXPECT_FALSE(kept.Find(&node, 0, {0, kPieceElements}).known);
  EXPECT_TRUE(kept.Find(&node, 0, {kPieceElements, 2 * kPieceElements}).known);
  EXPECT_NE(kept.Find(&node, 2, {2 * kBlockElements, 2 * kBlockElements + 100}).data, nullptr);  // the tensor's end

  EXPECT_EQ(kept.Find(&other, 0, {0, kPieceElements}).data, nullptr);
  EXPECT_EQ(kept.Find(&node, 1, {kBlockElements, kBlockElements + kPieceElements}).data, nullptr);  // no room taken
  EXPECT_EQ(kept.Find(&node, 1, {0, kPieceElements}).data, nullptr);  // another worker's block
  EXPECT_EQ(kept.Find(&node, 0, {0, 32}).data, nullptr);              // a part of a piece
  EXPECT_EQ(kept.Find(&node, 0, {32, kPieceElements}).data, nullptr);

  kept.GiveBack(0, arena->get());
  EXPECT_EQ((*arena)->num_free(), 2u);
  EXPECT_EQ(kept.Find(&node, 0, {0, kPieceElements}).data, nullptr);
  kept.TakeRoom(0, arena->get());
  EXPECT_FALSE(kept.Find(&node, 0, {kPieceElements, 2 * kPieceElements}).known);
  kept.TakeRoom(1, arena->get());
  EXPECT_EQ((*arena)->num_free(), 0u);
  kept.GiveBack(0, arena->get());
  kept.GiveBack(1, arena->get());
  kept.GiveBack(2, arena->get());
  kept.GiveBack(3, arena->get());  // none of its blocks
  EXPECT_EQ((*arena)->num_free(), 3u);
}

TEST(KeptValues, AreComputedOnceWhereThereIsRoomAndAreTheSameWhereThereIsNone) {
  const std::vector<uint64_t> sizes = {5, 70001, 65536 * 7 + 12345, 0, 65536, 3 * 65536, 999, 65536 * 40 + 33};
  const Model x(sizes, 4);
  std::map<uint32_t, std::vector<std::vector<float>>> expected;
  for (uint32_t t = 0; t < sizes.size(); ++t) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < sizes[t]; ++i) count += x.Value(t, i) > 0 ? 1 : 0;
    std::vector<float>& out = expected[t].emplace_back();
    for (uint64_t i = 0; i < sizes[t]; ++i) {
      out.push_back(x.Value(t, i) > 0 ? x.Value(t, i) + static_cast<float>(count) : 0);
    }
  }
  for (const int passes : {1, 2}) {
    // Room for all; for a part, beside held tiles; for none, in the least memory that does.
    for (const uint64_t working : {96 * kMiB, 24 * kMiB, uint64_t{0}}) {
      for (const int threads : {1, 3}) {
        for (const Hold hold : {Hold::kNever, Hold::kAlways}) {
          std::vector<std::vector<std::atomic<int>>> computed;
          for (const uint64_t size : sizes) computed.emplace_back(CeilDiv(size, kPieceElements));
          const FunctionGroups groups(sizes.size(), [&](size_t i, graph::Graph* graph) {
            const Node* of = x.Add(i, graph);
            const Node* bits = graph->Add(std::make_unique<PositiveNode>(of, &computed[i]));
            return std::vector<const Node*>{graph->Add(std::make_unique<PickNode>(of, bits, passes))};
          });
          auto budget = std::make_unique<MemoryBudget>(ResidentBytes() + MemoryBudget::kMarginBytes + working +
                                                       tests::kShadowBytes);
          StreamOptions options = Options(budget.get(), threads);
          options.hold = hold;
          auto stream =
              working > 0 ? Stream::Open(groups, options) : tests::OpenInLeastMemory(groups, options, &budget);
          ASSERT_TRUE(stream) << stream.error().ToString();
          EXPECT_LE(budget->peak_bytes(), budget->limit_bytes());
          Collector collector;
          Sink* sinks[] = {&collector};
          const auto pumped = Pump(**stream, sinks);
          ASSERT_TRUE(pumped) << pumped.error().ToString();
          EXPECT_EQ(collector.data, expected);
          int least = 99, most = 0;
          for (const auto& of_tensor : computed) {
            for (const std::atomic<int>& times : of_tensor) {
              least = std::min(least, times.load());
              most = std::max(most, times.load());
            }
          }
          EXPECT_GE(least, 1);
          EXPECT_LE(most, passes + 1);
          if (working == 96 * kMiB) EXPECT_EQ(most, 1);
          if (working == 0) EXPECT_EQ(least, passes + 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::stream
