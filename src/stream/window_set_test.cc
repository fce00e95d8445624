#include "stream/window_set.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "io/block_reader.h"

namespace sluice::stream {
namespace {

class NamedBytes final : public io::ByteSource {
 public:
  explicit NamedBytes(uint64_t inode) : id_{0, inode} {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return kGiB; }
  io::SourceId id() const override { return id_; }
  Result<void> Read(uint64_t, std::span<uint8_t>) const override { return {}; }

 private:
  std::string name_ = "bytes";
  io::SourceId id_;
};

TEST(WindowSet, JoinsWhatOverlapsOrNearlyTouchesAndCountsPayloadOnce) {
  graph::Graph graph;
  const auto source = std::make_shared<NamedBytes>(1), again = std::make_shared<NamedBytes>(1);
  const Node* a = graph.AddStored(source, 100, quant::F32(), 1000);            // bytes 100 to 4100
  const Node* b = graph.AddStored(again, 3000, quant::F32(), 1000);            // 3000 to 7000: overlaps, opened apart
  const Node* near = graph.AddStored(source, 8192 + 10000, quant::F32(), 10);  // a gap under 16 KiB
  const Node* far = graph.AddStored(source, kMiB, quant::F32(), 10);
  WindowSet windows(64 * kKiB);
  for (const Node* node : {far, a, near, b}) windows.AddRoot(node, {0, node->num_elements()}, false);
  windows.Layout();
  ASSERT_EQ(windows.windows().size(), 2u);
  EXPECT_EQ(windows.windows()[0].begin, 0u);
  EXPECT_EQ(windows.windows()[0].end, RoundUp(8192 + 10040, io::kBlockBytes));
  EXPECT_EQ(windows.windows()[0].payload_end, 8192u + 10040);
  EXPECT_EQ(windows.windows()[1].begin, kMiB);
  EXPECT_EQ(windows.payload_bytes(), 6900u + 40 + 40);
  EXPECT_EQ(windows.num_slots(), 1u);  // packed
}

TEST(WindowSet, ViewsLieInOneWindowAndOutputsApartFromPassingInputs) {
  graph::Graph graph;
  const auto source = std::make_shared<NamedBytes>(1);
  const Node* stored = graph.AddStored(source, 4096 * 3 + 6, quant::BF16(), 20000);
  const Node* other = graph.AddStored(std::make_shared<NamedBytes>(2), 8, quant::BF16(), 20000);
  WindowSet windows(64 * kKiB);
  windows.AddRoot(stored, {0, 20000}, true);  // an out that is a view
  windows.AddRoot(other, {0, 20000}, false);  // an input of the other out
  const uint32_t output = windows.AddOutput(40000);
  windows.Layout();
  EXPECT_EQ(windows.num_slots(), 3u);
  EXPECT_EQ(windows.num_kept_slots(), 2u);
  std::vector<std::vector<uint8_t>> memory(3, std::vector<uint8_t>(64 * kKiB));
  windows.Place({memory[0].data(), memory[1].data(), memory[2].data()});
  EXPECT_EQ(windows.Find(static_cast<const graph::StoredNode&>(*stored), {0, 20000}), memory[0].data() + 6);
  EXPECT_EQ(windows.Find(static_cast<const graph::StoredNode&>(*stored), {100, 200}), memory[0].data() + 206);
  EXPECT_EQ(windows.output(output), memory[1].data());
  EXPECT_EQ(windows.Find(static_cast<const graph::StoredNode&>(*other), {0, 1}), memory[2].data() + 8);
}

TEST(WindowSet, NeighboursThatDoNotFitInOneSlotStayTwoWindows) {
  graph::Graph graph;
  const auto source = std::make_shared<NamedBytes>(1);
  const Node* a = graph.AddStored(source, 0, quant::F32(), 3 * 4096);
  const Node* b = graph.AddStored(source, 4 * 3 * 4096, quant::F32(), 3 * 4096);
  WindowSet windows(64 * kKiB);
  windows.AddRoot(a, {0, 3 * 4096}, false);
  windows.AddRoot(b, {0, 3 * 4096}, false);
  windows.Layout();
  EXPECT_EQ(windows.windows().size(), 2u);
  EXPECT_EQ(windows.num_slots(), 2u);
  EXPECT_EQ(windows.moved_bytes(), windows.payload_bytes());
}

// Windows too large to be joined share a page: the view must not lie in the one that goes before its lease does.
TEST(WindowSet, AKeptViewLiesInAKeptWindowAlsoWhereAnotherHasItsBytes) {
  graph::Graph graph;
  const auto source = std::make_shared<NamedBytes>(1);
  const Node* before = graph.AddStored(source, 0, quant::F32(), 14 * 1024);
  const Node* kept = graph.AddStored(source, 14 * 4096 + 56, quant::F32(), 10);
  const Node* after = graph.AddStored(source, 14 * 4096 + 96, quant::F32(), 15000);
  WindowSet windows(64 * kKiB);
  windows.AddRoot(before, {0, 14 * 1024}, false);
  windows.AddRoot(kept, {0, 10}, true);
  windows.AddRoot(after, {0, 15000}, false);
  windows.Layout();
  ASSERT_EQ(windows.num_slots(), 2u);
  ASSERT_EQ(windows.num_kept_slots(), 1u);
  std::vector<std::vector<uint8_t>> memory(2, std::vector<uint8_t>(64 * kKiB));
  windows.Place({memory[0].data(), memory[1].data()});
  const auto& stored = static_cast<const graph::StoredNode&>(*kept);
  EXPECT_EQ(windows.Find(stored, {0, 10}, true), memory[0].data() + 14 * 4096 + 56);
}

}  // namespace
}  // namespace sluice::stream
