#include "graph/graph.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace sluice::graph {
namespace {

class NoBytes final : public io::ByteSource {
 public:
  explicit NoBytes(uint64_t inode) : id_{0, inode} {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return 0; }
  io::SourceId id() const override { return id_; }
  Result<void> Read(uint64_t, std::span<uint8_t>) const override { return Fail(ErrorCode::kRead, "a node has read"); }

 private:
  std::string name_ = "nothing";
  io::SourceId id_;
};

TEST(Graph, EqualComputationsAreOneNodeHoweverTheFileWasOpened) {
  const auto one = std::make_shared<NoBytes>(1), again = std::make_shared<NoBytes>(1),
             other = std::make_shared<NoBytes>(2);
  Graph graph;
  const Node* a = graph.AddStored(one, 64, quant::BF16(), 100);
  EXPECT_EQ(graph.AddStored(again, 64, quant::BF16(), 100), a);
  EXPECT_NE(graph.AddStored(other, 64, quant::BF16(), 100), a);
  EXPECT_NE(graph.AddStored(one, 66, quant::BF16(), 100), a);
  EXPECT_NE(graph.AddStored(one, 64, quant::F16(), 100), a);
  const Node* cast = graph.AddCast(a, quant::F32());
  EXPECT_EQ(graph.AddCast(a, quant::F32()), cast);
  EXPECT_NE(graph.AddCast(a, quant::F16()), cast);
  EXPECT_EQ(graph.AddCast(a, quant::BF16()), a);
  EXPECT_EQ(graph.size(), 6u);
}

TEST(Graph, StoredRangesAreWholeBlocksOfTheFile) {
  Graph graph;
  const auto source = std::make_shared<NoBytes>(1);
  const auto& bf16 = static_cast<const StoredNode&>(*graph.AddStored(source, 1000, quant::BF16(), 100));
  EXPECT_EQ(bf16.BytesOf({10, 20}), (Range{1020, 1040}));
  const auto& q8 = static_cast<const StoredNode&>(*graph.AddStored(source, 1000, quant::EncodingByName("Q8_0"), 3200));
  EXPECT_EQ(q8.BytesOf({64, 320}), (Range{1000 + 2 * 34, 1000 + 10 * 34}));
}

TEST(Graph, CastsRoundOnceToNearestEven) {
  Graph graph;
  const Node* input = graph.AddStored(std::make_shared<NoBytes>(1), 0, quant::F32(), 3);
  const Node* cast = graph.AddCast(input, quant::BF16());
  const float values[3] = {1.00390625f, 1.01171875f, 3.4e38f};  // two ties, and what overflows
  uint16_t out[3];
  std::vector<uint8_t> scratch(cast->ScratchBytes());
  const View view{reinterpret_cast<const uint8_t*>(values), {0, 3}};
  cast->Compute({{0, 3}, {&view, 1}, {}, scratch.data(), reinterpret_cast<uint8_t*>(out)});
  EXPECT_EQ(out[0], 0x3F80);
  EXPECT_EQ(out[1], 0x3F82);
  EXPECT_EQ(out[2], 0x7F80);
}

class Reverse final : public RowMap {
 public:
  explicit Reverse(uint64_t rows) : rows_(rows) {}
  uint64_t SourceRow(uint64_t row) const override { return rows_ - 1 - row; }
  uint64_t num_rows() const override { return rows_; }

 private:
  uint64_t rows_;
};

class Shift final : public RowMap {
 public:
  uint64_t SourceRow(uint64_t row) const override { return row + 5; }
  uint64_t num_rows() const override { return 4; }
};

TEST(Graph, RowGathersNeedTheirRowsAndJoinNeighbours) {
  Graph graph;
  const Node* input = graph.AddStored(std::make_shared<NoBytes>(1), 0, quant::F32(), 80);
  const RowGatherNode reverse("reverse", input, 8, std::make_shared<Reverse>(10));
  NeedList needs;
  reverse.Needs({4, 20}, &needs);
  ASSERT_EQ(needs.needs().size(), 3u);
  EXPECT_EQ(needs.needs()[0].range, (Range{76, 80}));
  EXPECT_EQ(needs.needs()[1].range, (Range{64, 72}));
  EXPECT_EQ(needs.needs()[2].range, (Range{56, 60}));
  const RowGatherNode shift("shift", input, 8, std::make_shared<Shift>());
  needs.Clear();
  shift.Needs({0, 32}, &needs);
  ASSERT_EQ(needs.needs().size(), 1u);
  EXPECT_EQ(needs.needs()[0].range, (Range{40, 72}));
}

}  // namespace
}  // namespace sluice::graph
