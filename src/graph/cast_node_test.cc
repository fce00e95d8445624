#include "graph/cast_node.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "graph/graph.h"

namespace sluice::graph {
namespace {

class NoBytes final : public io::ByteSource {
 public:
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return 0; }
  io::SourceId id() const override { return {}; }
  Result<void> Read(uint64_t, std::span<uint8_t>) const override { return Fail(ErrorCode::kRead, "a node has read"); }

 private:
  std::string name_ = "nothing";
};

// All numbers of 8 and 16 bits, one by one; of F32 those around the limits.
TEST(CastNode, CanOverflowWhereAFiniteNumberDoes) {
  for (const char* name : {"F8_E5M2", "F8_E4M3", "F8_E8M0", "F16", "BF16", "F32"}) {
    const quant::Encoding from = quant::EncodingByName(name);
    std::vector<uint8_t> bytes;
    const uint64_t size = from->block_bytes, count = size == 1 ? 256 : 65536;
    for (uint64_t i = 0; i < count; ++i) {
      const uint32_t bits = size == 4 ? static_cast<uint32_t>(i << 16 | 0xFFFF) : static_cast<uint32_t>(i);
      for (uint64_t byte = 0; byte < size; ++byte) bytes.push_back(static_cast<uint8_t>(bits >> (8 * byte)));
    }
    std::vector<float> before(count), after(count);
    from->decode(bytes.data(), count, before.data());
    for (const quant::Encoding to : {quant::F16(), quant::BF16(), quant::F32()}) {
      if (to == from) continue;
      std::vector<uint8_t> cast(to.BytesOf(count));
      to->encode(before.data(), count, cast.data());
      to->decode(cast.data(), count, after.data());
      bool overflows = false;
      for (uint64_t i = 0; i < count; ++i) overflows |= std::isfinite(before[i]) && std::isinf(after[i]);
      Graph graph;
      const Node* stored = graph.AddStored(std::make_shared<NoBytes>(), 0, from, count);
      const auto* node = dynamic_cast<const CastNode*>(graph.AddCast(stored, to));
      ASSERT_NE(node, nullptr);
      EXPECT_EQ(node->CanOverflow(), overflows) << name << " to " << to.name();
    }
  }
}

}  // namespace
}  // namespace sluice::graph
