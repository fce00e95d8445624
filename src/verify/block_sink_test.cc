#include "verify/block_sink.h"

#include <algorithm>
#include <array>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "stream/checkpoint_groups.h"
#include "stream/sink.h"
#include "verify/sample_result.h"
#include "verify/sampled_checkpoint.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using Model = std::shared_ptr<const checkpoint::Checkpoint>;

std::vector<tests::MemoryTensor> SmallTensors() {
  std::vector<tests::MemoryTensor> tensors;
  std::mt19937_64 generator(11);
  std::normal_distribution<float> normal(0, 0.05f);
  for (int i = 0; i < 12; ++i) {
    // From a few hundred elements to 40 blocks; most end in a short block.
    const uint64_t elements =
        i % 4 == 0 ? 576 : 2048 * (3 * static_cast<uint64_t>(i) + 4) + 1000 * (static_cast<uint64_t>(i) % 3);
    std::vector<float> values(elements);
    for (float& value : values) value = normal(generator);
    tensors.push_back(tests::EncodedTensor(fmt::format("layers.{}.weight", i), "BF16", {elements}, values));
  }
  return tensors;
}

SampleResult Compare(const Model& a, const Model& b, const Nonce& nonce, const SampleAim& aim, int threads = 1,
                     uint64_t tile_bytes = 1 << 20) {
  const std::vector<TensorPair> pairs = PairTensors(a->tensors(), b->tensors());
  std::vector<Stratum> strata;
  const auto model_of = [&](const TensorPair& pair, int side) -> const Model& {
    return pair.tied ? (pair.head_in_a ? a : b) : side == 0 ? a : b;
  };
  for (const TensorPair& pair : pairs) {
    strata.push_back({pair.name, model_of(pair, 0)->tensors()[pair.a].num_elements});
  }
  const BlockSample sample = DrawBlocks(strata, nonce, aim);
  std::vector<TensorSample> of_a, of_b;
  std::vector<SampledTensor> tensors;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& blocks = sample.strata[i].blocks;
    of_a.push_back({pairs[i].a, kSampleBlockElements, blocks, pairs[i].name, model_of(pairs[i], 0)});
    of_b.push_back({pairs[i].b, kSampleBlockElements, blocks, pairs[i].name, model_of(pairs[i], 1)});
    SampledTensor& tensor = tensors.emplace_back();
    tensor.name = pairs[i].name;
    tensor.tied = pairs[i].tied;
    tensor.num_elements = strata[i].num_elements;
    tensor.num_blocks = sample.strata[i].num_blocks;
    tensor.drawn = blocks;
    tensor.blocks.resize(blocks.size());
  }
  const SampledCheckpoint sampled_a(a, of_a), sampled_b(b, of_b);
  std::vector<std::vector<stream::LockstepGroups::Member>> members;
  for (uint32_t i = 0; i < pairs.size(); ++i) members.push_back({{&sampled_a, i}, {&sampled_b, i}});
  const stream::LockstepGroups groups(std::move(members));
  BlockSink sink({&sampled_a.tensors(), &sampled_b.tensors()}, 0,
                 [&](uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes) {
                   EXPECT_EQ(tensors[group].blocks[block].elements, 0u) << "a block came twice";
                   tensors[group].blocks[block] = CompareBlock(sampled_a.tensors()[group].encoding, bytes[0],
                                                               sampled_b.tensors()[group].encoding, bytes[1], elements);
                 });
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.budget = &budget;
  options.num_threads = threads;
  options.max_tile_bytes = tile_bytes;
  options.wants = sink.wants();
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream.has_value()) << stream.error().ToString();
  EXPECT_TRUE(stream::Pump(**stream, std::array<stream::Sink*, 1>{&sink}).has_value());
  for (const SampledTensor& tensor : tensors) {
    for (size_t i = 0; i < tensor.drawn.size(); ++i) {
      EXPECT_EQ(tensor.blocks[i].elements,
                std::min(kSampleBlockElements, tensor.num_elements - tensor.drawn[i] * kSampleBlockElements));
    }
  }
  return SummariseSample(tensors, sample, nonce, aim, nullptr);
}

Nonce NonceOf(uint8_t number) { return Nonce(16, number); }

TEST(BlockSinkTest, EqualModelsAreEqualAtAnyThreadsAndTiles) {
  const Model a = tests::MakeMemoryCheckpoint("a", SmallTensors()),
              b = tests::MakeMemoryCheckpoint("b", SmallTensors());
  std::optional<SampleResult> first;
  for (const int threads : {1, 3}) {
    for (const uint64_t tile_bytes : {1 << 20, 1 << 18}) {
      const SampleResult found = Compare(a, b, NonceOf(1), {.detect = 0.05}, threads, tile_bytes);
      EXPECT_TRUE(found.Equal());
      EXPECT_EQ(found.identical, found.blocks);
      EXPECT_FALSE(found.IsCensus());
      if (!first) first = found;
      EXPECT_EQ(found.rows.back().statistics.a->mean.value, first->rows.back().statistics.a->mean.value);
      EXPECT_EQ(*found.rows.back().statistics.a->deviation.margin, *first->rows.back().statistics.a->deviation.margin);
    }
  }
}

// Real reads of 400 tampered copies: one element of one to eight blocks is changed, and found if and only if one of the
// blocks was drawn; as often as was stated.
TEST(BlockSinkTest, TamperedCopiesAreFoundAsOftenAsStated) {
  const std::vector<tests::MemoryTensor> tensors = SmallTensors();
  const Model a = tests::MakeMemoryCheckpoint("a", tensors);
  const SampleAim aim{.detect = 0.05, .confidence = 0.9};
  std::vector<std::pair<size_t, uint64_t>> blocks;
  std::vector<Stratum> strata;
  for (size_t i = 0; i < a->tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = a->tensors()[i];
    strata.push_back({std::string(tensor.name), tensor.num_elements});
    for (uint64_t block = 0; block < CountBlocks(tensor.num_elements); ++block) blocks.emplace_back(i, block);
  }
  std::mt19937_64 generator(5);
  int found = 0;
  double expected = 0, variance = 0;
  for (int copy = 0; copy < 400; ++copy) {
    const size_t count = 1 + copy % 8;
    std::vector<std::pair<size_t, uint64_t>> tampered;
    std::ranges::sample(blocks, std::back_inserter(tampered), static_cast<ptrdiff_t>(count), generator);
    std::vector<tests::MemoryTensor> changed = tensors;
    Nonce nonce(16);
    for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(generator());
    const BlockSample sample = DrawBlocks(strata, nonce, aim);
    bool drawn = false;
    for (const auto& [i, block] : tampered) {
      const std::string name(a->tensors()[i].name);
      auto& bytes = std::ranges::find(changed, name, &tests::MemoryTensor::name)->bytes;
      const uint64_t end = std::min<uint64_t>(bytes.size() / 2, (block + 1) * kSampleBlockElements);
      const uint64_t element = block * kSampleBlockElements + generator() % (end - block * kSampleBlockElements);
      bytes[2 * element + generator() % 2] ^= static_cast<uint8_t>(1 << generator() % 8);
      drawn |= std::ranges::binary_search(sample.strata[i].blocks, block);
    }
    const SampleResult result = Compare(a, tests::MakeMemoryCheckpoint("b", changed), nonce, aim);
    EXPECT_EQ(!result.Equal(), drawn);
    EXPECT_EQ(result.SurelyDiffers(), drawn);
    found += result.Equal() ? 0 : 1;
    const double stated =
        1 - std::pow(1 - static_cast<double>(count) / static_cast<double>(blocks.size()), sample.num_draws);
    expected += stated;
    variance += stated * (1 - stated);
  }
  EXPECT_GE(found, expected - 4.4 * std::sqrt(variance));
}

TEST(BlockSinkTest, AHeadThatOneSideStoresMeetsTheEmbeddingOfThatSide) {
  std::vector<float> values(2048 * 30), other(2048 * 30, 0.5f);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97) / 97;
  const auto embedding = tests::EncodedTensor("model.embed_tokens.weight", "BF16", {30, 2048}, values);
  const auto tensor = [&](const char* name, const std::vector<float>& of) {
    return tests::EncodedTensor(name, "BF16", {30, 2048}, of);
  };
  const Model tied = tests::MakeMemoryCheckpoint("a", {embedding});
  const Model copy = tests::MakeMemoryCheckpoint("b", {embedding, tensor("lm_head.weight", values)});
  const Model own = tests::MakeMemoryCheckpoint("c", {embedding, tensor("lm_head.weight", other)});
  for (const bool first : {true, false}) {
    const auto compare = [&](const Model& with) {
      return first ? Compare(with, tied, NonceOf(1), {.detect = 0.1})
                   : Compare(tied, with, NonceOf(1), {.detect = 0.1});
    };
    EXPECT_TRUE(compare(copy).Equal());
    EXPECT_EQ(compare(copy).all_blocks, 60u);
    const SampleResult found = compare(own);
    ASSERT_EQ(found.differing.size(), 1u);
    EXPECT_EQ(found.differing[0].name, "lm_head.weight");
    EXPECT_TRUE(found.differing[0].tied);
    // A copy of an embedding that is another than the other side's: what differs is the embedding, and it alone.
    const Model tuned =
        tests::MakeMemoryCheckpoint("d", {tensor("model.embed_tokens.weight", other), tensor("lm_head.weight", other)});
    const SampleResult changed = compare(tuned);
    ASSERT_EQ(changed.differing.size(), 1u);
    EXPECT_EQ(changed.differing[0].name, "model.embed_tokens.weight");
    EXPECT_FALSE(changed.differing[0].tied);
  }
}

TEST(BlockSinkTest, OtherEncodingsAreRoundedOrEqual) {
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(2048 * 50);
  for (float& value : values) value = normal(generator);
  const auto model = [&](const char* encoding) {
    return tests::MakeMemoryCheckpoint(encoding, {tests::EncodedTensor("w", encoding, {50, 2048}, values)});
  };
  const SampleResult rounded = Compare(model("F32"), model("BF16"), NonceOf(1), {.detect = 0.1});
  EXPECT_EQ(rounded.rounded, rounded.blocks);
  EXPECT_EQ(rounded.rounded_side, RoundedSide::kB);
  EXPECT_FALSE(rounded.SurelyDiffers());
  const SampleResult blocks = Compare(model("Q8_0"), model("F32"), NonceOf(1), {.detect = 0.1});
  EXPECT_EQ(blocks.rounded_side, RoundedSide::kA);
  // A rounded here, B there: no one rounding made either of the other.
  std::vector<tests::MemoryTensor> a, b;
  for (const auto& [name, x, y] : {std::tuple{"v", "F32", "BF16"}, {"w", "BF16", "F32"}}) {
    a.push_back(tests::EncodedTensor(name, x, {50, 2048}, values));
    b.push_back(tests::EncodedTensor(name, y, {50, 2048}, values));
  }
  EXPECT_TRUE(
      Compare(tests::MakeMemoryCheckpoint("a", a), tests::MakeMemoryCheckpoint("b", b), NonceOf(1), {.detect = 0.1})
          .SurelyDiffers());
}

class LeaseCounter final : public stream::Sink {
 public:
  Result<void> Take(const stream::Lease&, stream::Stream&) override {
    ++leases;
    return {};
  }
  Result<void> End() override { return {}; }
  int leases = 0;
};

// One block each of 64 tensors of 160 KB is one job's work: reads are many at once, however many tensors there are.
TEST(BlockSinkTest, BlocksOfManyTensorsAreReadTogether) {
  std::vector<tests::MemoryTensor> tensors;
  std::vector<TensorSample> samples;
  for (uint32_t i = 0; i < 64; ++i) {
    tensors.push_back({fmt::format("w{:02}", i), "BF16", {40, 2048}, std::vector<uint8_t>(40 * 4096)});
    samples.push_back({i, kSampleBlockElements, {i % 40}});
  }
  const SampledCheckpoint sampled(tests::MakeMemoryCheckpoint("a", tensors), samples);
  const stream::CheckpointGroups groups(sampled);
  LeaseCounter counter;
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.budget = &budget;
  auto stream = stream::Stream::Open(groups, options);
  ASSERT_TRUE(stream.has_value()) << stream.error().ToString();
  ASSERT_TRUE(stream::Pump(**stream, std::array<stream::Sink*, 1>{&counter}).has_value());
  EXPECT_LE(counter.leases, 2);
  EXPECT_EQ((*stream)->stats().payload_bytes, 64u * 4096);
}

}  // namespace
}  // namespace sluice::verify
