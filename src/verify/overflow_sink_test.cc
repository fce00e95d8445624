#include "verify/overflow_sink.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "stream/checkpoint_groups.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;

std::vector<OverflowSink::Count> CountsOf(const stream::GroupSource& tensors, uint64_t* payload_bytes = nullptr) {
  const stream::CastGroups groups(tensors);
  OverflowSink sink(groups, 2);
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.num_threads = 2;
  options.budget = &budget;
  options.wants = sink.wants();
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream.has_value());
  stream::Sink* const sinks[] = {&sink};
  EXPECT_TRUE(stream::Pump(**stream, sinks).has_value());
  if (payload_bytes != nullptr) *payload_bytes = (*stream)->stats().payload_bytes;
  return sink.Counts();
}

std::vector<OverflowSink::Count> CountsOf(const std::shared_ptr<const checkpoint::Checkpoint>& model,
                                          quant::Encoding to, uint64_t* payload_bytes = nullptr) {
  const auto cast = checkpoint::CastTo(model, to);
  EXPECT_TRUE(cast.has_value());
  return CountsOf(stream::CheckpointGroups(**cast), payload_bytes);
}

// 65,504 is the largest half; from 65,520, half a step above it, numbers round to infinity.
TEST(OverflowSink, CountsWhatWasFiniteBefore) {
  constexpr uint64_t kLarge = 900'000;
  std::vector<float> large(kLarge, 1.0f);
  large[0] = 65536;
  large[100'000] = -1e6f;
  large[kLarge - 1] = 3e38f;
  large[1] = INFINITY;
  large[70'000] = -INFINITY;
  large[2] = std::nanf("");
  const std::vector<float> edge = {65504, 65519.99f, 65520, -65520, 0, INFINITY}, fine = {1, -INFINITY, 65504, 0};
  std::vector<uint8_t> block(34, 2);  // 65504 * 2, ...
  block[0] = 0xFF, block[1] = 0x7B;
  block[2] = 1;  // ... and once 65504
  const auto model = tests::MakeMemoryCheckpoint("m", {EncodedTensor("large", "BF16", {kLarge}, large),
                                                       EncodedTensor("edge", "F32", {6}, edge),
                                                       EncodedTensor("fine", "F32", {4}, fine),
                                                       EncodedTensor("half", "F16", {4}, fine),
                                                       {"blocks", "Q8_0", {32}, block},
                                                       {"ids", "I64", {2}, std::vector<uint8_t>(16, 0x7C)}});
  uint64_t payload_bytes = 0;
  const auto counts = CountsOf(model, quant::F16(), &payload_bytes);
  EXPECT_EQ(payload_bytes, model->tensors().total_bytes());  // once
  ASSERT_EQ(counts.size(), 3u);
  EXPECT_EQ(counts[0].name, "blocks");
  EXPECT_EQ(counts[0].overflowed, 31u);
  EXPECT_EQ(counts[1].name, "edge");
  EXPECT_EQ(counts[1].overflowed, 2u);
  EXPECT_EQ(counts[2].name, "large");
  EXPECT_EQ(counts[2].overflowed, 3u);
  EXPECT_EQ(counts[2].to, quant::F16());
  EXPECT_TRUE(CountsOf(model, quant::F32()).empty());
}

TEST(OverflowSink, BfloatOverflowsByRoundingUp) {
  const float largest = std::numeric_limits<float>::max();  // bf16's largest has eight bits of it
  const auto model =
      tests::MakeMemoryCheckpoint("m", {EncodedTensor("f", "F32", {4}, {largest, -largest, 3.38953139e38f, 1}),
                                        EncodedTensor("h", "F16", {2}, {65504, INFINITY})});
  const auto counts = CountsOf(model, quant::BF16());
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts[0].overflowed, 2u);
}

TEST(OverflowSink, NoCastNoCount) {
  const auto model = tests::MakeMemoryCheckpoint("m", {EncodedTensor("w", "F32", {2}, {1e30f, INFINITY})});
  const stream::CheckpointGroups groups(*model);
  EXPECT_FALSE(stream::CastGroups(groups).cast(0).to.valid());
  EXPECT_TRUE(CountsOf(groups).empty());
}

// Rows that are gathered after a cast come in another order than what was cast: the count is the same.
class Reversed final : public graph::RowMap {
 public:
  explicit Reversed(uint64_t rows) : rows_(rows) {}
  uint64_t SourceRow(uint64_t row) const override { return rows_ - 1 - row; }
  uint64_t num_rows() const override { return rows_; }

 private:
  const uint64_t rows_;
};

class ReversedGroups final : public stream::GroupSource {
 public:
  ReversedGroups(const checkpoint::Checkpoint& checkpoint, uint64_t columns)
      : checkpoint_(checkpoint), columns_(columns) {}
  size_t size() const override { return 1; }
  std::string name(size_t) const override { return "w"; }
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override {
    const graph::Node* node = checkpoint_.MakeNode(group, graph);
    outs->push_back(graph->Add(std::make_unique<graph::RowGatherNode>(
        "reversed", node, columns_, std::make_shared<Reversed>(node->num_elements() / columns_))));
  }

 private:
  const checkpoint::Checkpoint& checkpoint_;
  const uint64_t columns_;
};

TEST(OverflowSink, InAnyOrder) {
  constexpr uint64_t kColumns = 1 << 16, kRows = 40;
  std::vector<float> values(kColumns * kRows, 0.5f);
  for (uint64_t i = 0; i < 1000; ++i) values[i] = 1e6f;  // the last row of what passes
  values[1001] = INFINITY;
  const auto model = tests::MakeMemoryCheckpoint("m", {EncodedTensor("w", "BF16", {kRows, kColumns}, values)});
  const auto cast = checkpoint::CastTo(model, quant::F16());
  ASSERT_TRUE(cast.has_value());
  const auto counts = CountsOf(ReversedGroups(**cast, kColumns));
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts[0].overflowed, 1000u);
}

}  // namespace
}  // namespace sluice::verify
