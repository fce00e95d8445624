// What the stream does ahead of its turn, while a group waits for facts of several passes.

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/testing/sanitizers.h"
#include "base/units.h"
#include "stream/sink.h"
#include "stream/testing/expressions.h"
#include "stream/testing/memory_model.h"

namespace sluice::stream {
namespace {

using graph::FactValue;
using graph::Node;
using tests::Budget;
using tests::Collector;
using tests::FunctionGroups;
using tests::Model;
using tests::Options;
using tests::TimesRead;

// What happens in one fold, for another to wait for.
class Event {
 public:
  void Happen() {
    const std::lock_guard lock(mutex_);
    happened_ = true;
    wake_.notify_all();
  }
  bool Await() {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, std::chrono::seconds(20), [this] { return happened_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool happened_ = false;
};

// A fact of two passes, the first of which ends when `awaited` has happened; `begun` happens with its first block.
// Its value says whether it did.
class AwaitingFact final : public graph::Fact {
 public:
  AwaitingFact(const Node* x, Event* begun, Event* awaited) : Fact("awaiting", {x}), begun_(begun), awaited_(awaited) {}
  int max_passes() const override { return 2; }
  uint64_t StateBytes(int) const override { return 64; }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override {
    class AwaitingFold final : public graph::Fold {
     public:
      AwaitingFold(Event* begun, Event* awaited) : begun_(begun), awaited_(awaited) {}
      void Add(int, Range, std::span<const View>) override {
        if (begun_ != nullptr) begun_->Happen();
      }
      bool Finish(FactValue* value) override {
        if (pass_++ == 0) happened_ = awaited_ == nullptr || awaited_->Await();
        *value = {happened_ ? 1.0 : 0.0};
        return pass_ == 2;
      }

     private:
      Event* begun_;
      Event* awaited_;
      int pass_ = 0;
      bool happened_ = false;
    };
    return std::make_unique<AwaitingFold>(begun_, awaited_);
  }

 private:
  Event* begun_;
  Event* awaited_;
};

// out = x times the value of the fact of x.
class AwaitingNode final : public Node {
 public:
  AwaitingNode(const Node* x, Event* begun, Event* awaited) : Node("times", quant::F32(), x->num_elements(), {x}) {
    AddFact(std::make_unique<AwaitingFact>(x, begun, awaited));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      x *= static_cast<float>(args.facts[0]->at(0));
      std::memcpy(args.out + 4 * i, &x, 4);
    }
  }
  double NanosecondsPerElement() const override { return 1; }
};

// While a group waits for its facts, the next ones are folded, whether their tiles are kept or not.
TEST(LookAhead, TheNextGroupIsFoldedWhileAFactOfSeveralPassesIsAwaited) {
  for (const bool hold : {true, false}) {
    const std::vector<uint64_t> sizes = {4 * 65536, 3 * 65536 + 100, 2 * 65536};
    const Model x(sizes, 2);
    Event second_begun, third_begun;
    const FunctionGroups groups(sizes.size(), [&](size_t i, graph::Graph* graph) {
      Event* const begun[] = {nullptr, &second_begun, &third_begun};
      Event* const awaited[] = {&second_begun, hold ? &third_begun : nullptr, nullptr};
      return std::vector<const Node*>{
          graph->Add(std::make_unique<AwaitingNode>(x.Add(i, graph), begun[i], awaited[i]))};
    });
    MemoryBudget budget = Budget(64 * kMiB + tests::kShadowBytes);
    StreamOptions options = Options(&budget, 3);
    options.hold = hold ? Hold::kAlways : Hold::kNever;
    auto stream = Stream::Open(groups, options);
    ASSERT_TRUE(stream) << stream.error().ToString();
    Collector collector;
    Sink* sinks[] = {&collector};
    ASSERT_TRUE(Pump(**stream, sinks));
    EXPECT_EQ(collector.order, (std::vector<uint32_t>{0, 1, 2}));
    for (uint32_t i = 0; i < sizes.size(); ++i) {
      ASSERT_EQ(collector.data[i][0].size(), sizes[i]);
      for (uint64_t k = 0; k < sizes[i]; ++k) ASSERT_EQ(collector.data[i][0][k], x.Value(i, k)) << i << " " << k;
    }
    if (hold) EXPECT_EQ(TimesRead(x), std::vector<int>{1});
  }
}

// What fails ahead of its turn is told in its turn: all that comes before it is handed out.
TEST(LookAhead, AFailureAheadOfItsTurnComesAfterTheTilesBeforeIt) {
  for (const bool hold : {true, false}) {
    const std::vector<uint64_t> sizes = {6 * 65536, 6 * 65536};
    const Model x(sizes, 2), bad({6 * 65536}, 3);
    bad.memory->FailFrom(3 * 262144);
    Event bad_begun;
    const FunctionGroups groups(3, [&](size_t i, graph::Graph* graph) {
      const Node* in = i == 1 ? bad.Add(0, graph) : x.Add(i / 2, graph);
      return std::vector<const Node*>{
          graph->Add(std::make_unique<AwaitingNode>(in, i == 1 ? &bad_begun : nullptr, i == 0 ? &bad_begun : nullptr))};
    });
    MemoryBudget budget = Budget(64 * kMiB + tests::kShadowBytes);
    StreamOptions options = Options(&budget);
    options.hold = hold ? Hold::kAlways : Hold::kNever;
    auto stream = Stream::Open(groups, options);
    ASSERT_TRUE(stream) << stream.error().ToString();
    Collector collector;
    Sink* sinks[] = {&collector};
    const auto pumped = Pump(**stream, sinks);
    ASSERT_FALSE(pumped);
    EXPECT_EQ(pumped.error().code, ErrorCode::kRead);
    EXPECT_NE(pumped.error().ToString().find("tensor 1"), std::string::npos) << pumped.error().ToString();
    EXPECT_EQ(collector.order, std::vector<uint32_t>{0});
    EXPECT_EQ(collector.data[0][0].size(), sizes[0]);
  }
}

// Where there is no slot to spare: after reads ahead of their turn have failed, the group before them still finds slots
// for its second pass and its values.
TEST(LookAhead, ReadsThatFailedAheadKeepNoSlots) {
  const Model x({6 * 65536}, 2), bad({6 * 65536}, 3);
  bad.memory->FailFrom(0);
  bad.memory->Delay(2000);
  Event later;
  const FunctionGroups groups(2, [&](size_t i, graph::Graph* graph) {
    const Node* in = i == 1 ? bad.Add(0, graph) : x.Add(0, graph);
    return std::vector<const Node*>{graph->Add(std::make_unique<AwaitingNode>(in, nullptr, i == 0 ? &later : nullptr))};
  });
  std::unique_ptr<MemoryBudget> budget;
  StreamOptions options = Options(nullptr);
  options.hold = Hold::kNever;
  options.reader = io::ReaderKind::kThreads;  // several at once
  auto stream = tests::OpenInLeastMemory(groups, options, &budget);
  ASSERT_TRUE(stream) << stream.error().ToString();
  std::thread soon([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until they have failed
    later.Happen();
  });
  Collector collector;
  Sink* sinks[] = {&collector};
  const auto pumped = Pump(**stream, sinks);
  soon.join();
  ASSERT_FALSE(pumped);
  EXPECT_EQ(pumped.error().code, ErrorCode::kRead) << pumped.error().ToString();
  EXPECT_EQ(collector.data[0][0].size(), 6 * 65536u);
}

// Tiles of scattered rows take more slots than those of rows that lie side by side: as many are held as there is room
// for, not as many as of the first.
TEST(LookAhead, TilesAreHeldByWhatEachTakes) {
  constexpr uint64_t kColumns = 1024, kRows = 40 * 64;
  const Model x({kRows * kColumns}, 2);
  const auto map = std::make_shared<tests::Scatter>(0, kRows, kRows, true);
  const FunctionGroups groups(1, [&](size_t, graph::Graph* graph) {
    const Node* rows = graph->Add(std::make_unique<graph::RowGatherNode>("scattered", x.Add(0, graph), kColumns, map));
    std::vector<tests::MixNode::Looks> looks = {{{rows}, {}}};
    return std::vector<const Node*>{graph->Add(std::make_unique<tests::MixNode>("mix", rows, rows, std::move(looks)))};
  });
  std::map<uint32_t, std::vector<std::vector<float>>> expected;
  for (uint64_t working = 20 * kMiB; working < 32 * kMiB; working += 2 * kMiB) {
    MemoryBudget budget = Budget(working + tests::kShadowBytes);
    StreamOptions options = Options(&budget);
    if (expected.empty()) options.hold = Hold::kNever;
    auto stream = Stream::Open(groups, options);
    ASSERT_TRUE(stream) << stream.error().ToString();
    Collector collector;
    Sink* sinks[] = {&collector};
    const auto pumped = Pump(**stream, sinks);
    ASSERT_TRUE(pumped) << pumped.error().ToString();
    if (expected.empty()) expected = collector.data;
    EXPECT_EQ(collector.data, expected);
  }
}

}  // namespace
}  // namespace sluice::stream
