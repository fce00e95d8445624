#include "verify/sampled_checkpoint.h"

#include <array>
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "kernels/sha256.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "stream/sink.h"

namespace sluice::verify {
namespace {

// One tensor of two and a half chunks, one of less than one.
class SampledCheckpointTest : public testing::Test {
 protected:
  SampledCheckpointTest() {
    large_.resize(checkpoint::kChunkBytes * 5 / 2);
    for (size_t i = 0; i < large_.size(); ++i) large_[i] = static_cast<char>((i * 2654435761u) >> 13);
    small_ = std::string(1000, 'x');
    const std::string header = "{\"large\":{\"dtype\":\"BF16\",\"shape\":[" + std::to_string(large_.size() / 2) +
                               "],\"data_offsets\":[0," + std::to_string(large_.size()) +
                               "]},\"small\":{\"dtype\":\"BF16\",\"shape\":[500],\"data_offsets\":[" +
                               std::to_string(large_.size()) + "," + std::to_string(large_.size() + 1000) + "]}}";
    std::string file(8, '\0');
    const uint64_t size = header.size();
    std::memcpy(file.data(), &size, 8);
    tests::WriteText(dir_ / "m.safetensors", file + header + large_ + small_);
    model_ = *checkpoint::OpenCheckpoint(dir_ / "m.safetensors", {});
  }
  kernels::Hash256 Leaf(const std::string& bytes, uint64_t chunk) const {
    const std::string part = bytes.substr(chunk * checkpoint::kChunkBytes, checkpoint::kChunkBytes);
    return kernels::HashLeaf({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
  }
  tests::TempDir dir_;
  std::string large_, small_;
  std::shared_ptr<const checkpoint::Checkpoint> model_;
};

TEST_F(SampledCheckpointTest, TheDigestIsThatOfTheChosenLeaves) {
  const uint64_t chunk = ChunkElements(quant::BF16());
  const SampledCheckpoint sampled(model_, {{0, chunk, {0, 2}}, {1, chunk, {0}}});
  ASSERT_EQ(sampled.tensors().size(), 2u);
  EXPECT_EQ(sampled.tensors()[0].size_bytes(), checkpoint::kChunkBytes * 3 / 2);
  const stream::CheckpointGroups groups(sampled);
  stream::DigestSink sink(sampled.tensors());
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.budget = &budget;
  options.num_threads = 2;
  options.wants = sink.wants();
  auto stream = stream::Stream::Open(groups, options);
  ASSERT_TRUE(stream.has_value()) << stream.error().ToString();
  ASSERT_TRUE(stream::Pump(**stream, std::array<stream::Sink*, 1>{&sink}).has_value());
  const auto digests = sink.Digests();
  EXPECT_EQ(digests[0].root, checkpoint::TensorRoot(std::vector{Leaf(large_, 0), Leaf(large_, 2)}));
  EXPECT_EQ(digests[1].root, checkpoint::TensorRoot(std::vector{Leaf(small_, 0)}));
  EXPECT_EQ((*stream)->stats().payload_bytes, checkpoint::kChunkBytes * 3 / 2 + 1000);
}

TEST_F(SampledCheckpointTest, DrawsByShareAndNonceAndNeverNothing) {
  const checkpoint::Catalogue& tensors = model_->tensors();
  EXPECT_EQ(CountChunks(tensors[0]), 3u);
  EXPECT_EQ(CountChunks(tensors[1]), 1u);
  const auto count = [](const std::vector<TensorSample>& samples) {
    size_t chunks = 0;
    for (const TensorSample& sample : samples) chunks += sample.blocks.size();
    return chunks;
  };
  EXPECT_EQ(count(DrawChunks(tensors, 1, 5)), 4u);
  std::set<std::pair<uint32_t, uint64_t>> seen;
  size_t drawn = 0;
  for (uint64_t nonce = 0; nonce < 1000; ++nonce) {
    const auto samples = DrawChunks(tensors, 1e-9, nonce);
    ASSERT_EQ(count(samples), 1u);
    seen.emplace(samples[0].tensor, samples[0].blocks[0]);
    drawn += count(DrawChunks(tensors, 0.5, nonce));
  }
  EXPECT_EQ(seen.size(), 4u);
  // 4,000 fair draws, and one more where none came (1 time in 16): 2,062 on average, with a deviation of 31.
  EXPECT_NEAR(static_cast<double>(drawn), 2062, 5 * 31);
}

}  // namespace
}  // namespace sluice::verify
