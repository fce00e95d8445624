#include "stream/digest_sink.h"

#include <gtest/gtest.h>

#include <random>

#include "checkpoint/digest_tree.h"
#include "stream/testing/fake_stream.h"

namespace sluice::stream {
namespace {

using checkpoint::kChunkBytes;
using tests::FakeGroup;
using tests::FakeStream;

std::vector<uint8_t> Noise(uint64_t size_bytes, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> noise(size_bytes);
  uint64_t word = 0;
  for (uint64_t i = 0; i < size_bytes; ++i) {
    if (i % 8 == 0) word = random();
    noise[i] = static_cast<uint8_t>(word >> (8 * (i % 8)));
  }
  return noise;
}

// The definition, in the plainest way.
kernels::Hash256 PlainRoot(std::span<const uint8_t> bytes) {
  std::vector<kernels::Hash256> leaves;
  for (uint64_t at = 0; at < bytes.size(); at += kChunkBytes) {
    leaves.push_back(kernels::HashLeaf(bytes.subspan(at, std::min<uint64_t>(kChunkBytes, bytes.size() - at))));
  }
  return kernels::MerkleRoot(leaves);
}

struct Model {
  checkpoint::Catalogue catalogue;
  std::vector<FakeGroup> groups;  // in the catalogue's order

  // Names are given so that the order of adding is the sorted one.
  void Add(std::string_view encoding_name, uint64_t num_elements, int num_outs = 1) {
    const quant::Encoding encoding = quant::EncodingByName(encoding_name);
    const std::string name(1, static_cast<char>('a' + groups.size()));
    const uint64_t shape[] = {num_elements};
    catalogue.Add(name, encoding, shape, num_elements);
    FakeGroup group{encoding, {}};
    for (int out = 0; out < num_outs; ++out) {
      group.outs.push_back(Noise(encoding.BytesOf(num_elements), static_cast<uint32_t>(100 * groups.size() + out)));
    }
    groups.push_back(std::move(group));
  }
};

// Sizes around the chunk, small tensors in a row, an empty one, a block encoding whose blocks do not divide the chunk.
Model MixedModel(int num_outs = 1) {
  Model model;
  for (const uint64_t size : {uint64_t{1}, kChunkBytes - 1, kChunkBytes, kChunkBytes + 1, uint64_t{0}, 2 * kChunkBytes,
                              3 * kChunkBytes + 12345, uint64_t{100}, uint64_t{200}, uint64_t{300}}) {
    model.Add("U8", size, num_outs);
  }
  model.Add("BF16", kChunkBytes + 3, num_outs);
  model.Add("F64", kChunkBytes / 4, num_outs);
  model.Add("Q8_0", 32 * 100'000, num_outs);
  return model;
}

void ExpectRoots(const Model& model, const FakeStream::Options& options, size_t out = 0) {
  DigestSink sink(model.catalogue, {}, std::vector<uint8_t>(model.catalogue.size(), out));
  {
    FakeStream stream(model.groups, options);
    Sink* sinks[] = {&sink};
    ASSERT_TRUE(Pump(stream, sinks));
  }
  const auto digests = sink.Digests();
  ASSERT_EQ(digests.size(), model.groups.size());
  for (size_t group = 0; group < digests.size(); ++group) {
    EXPECT_EQ(digests[group].root, PlainRoot(model.groups[group].outs[out])) << "group " << group;
    EXPECT_EQ(digests[group].name, model.catalogue[group].name);
    EXPECT_EQ(digests[group].encoding, model.catalogue[group].encoding.name());
    EXPECT_EQ(digests[group].size_bytes, model.groups[group].outs[out].size());
  }
}

// Cuts from a few blocks to many chunks; one and many pieces a lease.
TEST(DigestSink, RootsDoNotDependOnCutsOrOnTheOrderOfTasks) {
  const Model model = MixedModel();
  for (const auto tasks : {FakeStream::Tasks::kAtOnce, FakeStream::Tasks::kLast, FakeStream::Tasks::kLastReversed}) {
    for (const uint64_t piece : {uint64_t{40'000}, uint64_t{700'000}, kChunkBytes, 5 * kChunkBytes, 40 * kChunkBytes}) {
      for (const int pieces : {1, 7}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(tasks) << " " << piece << " " << pieces);
        ExpectRoots(model, {.max_piece_elements = piece, .max_pieces = pieces, .tasks = tasks});
      }
    }
  }
}

TEST(DigestSink, OddCutsOfASmallTensor) {
  Model model;
  model.Add("U8", 5000);
  model.Add("F32", 1);
  model.Add("U8", 77);
  ExpectRoots(model, {.max_piece_elements = 3, .max_pieces = 5, .tasks = FakeStream::Tasks::kLastReversed});
}

TEST(DigestSink, TilesOfExactlyOneChunkArePairedAcrossLeases) {
  Model model;
  model.Add("U8", 5 * kChunkBytes);
  model.Add("U8", 2 * kChunkBytes);
  // A lease that keeps much is not held for the sake of a pair.
  for (const auto& [kept_bytes, tasks] : {std::pair<uint64_t, int>{kChunkBytes + 8192, 3}, {9 * kChunkBytes, 7}}) {
    DigestSink sink(model.catalogue);
    FakeStream stream(model.groups, {.min_piece_elements = kChunkBytes,
                                     .max_piece_elements = kChunkBytes,
                                     .tasks = FakeStream::Tasks::kLast,
                                     .kept_bytes = kept_bytes});
    Sink* sinks[] = {&sink};
    ASSERT_TRUE(Pump(stream, sinks));
    EXPECT_EQ(stream.num_posted(), tasks);
    EXPECT_EQ(sink.Digests()[0].root, PlainRoot(model.groups[0].outs[0]));
    EXPECT_EQ(sink.Digests()[1].root, PlainRoot(model.groups[1].outs[0]));
  }
}

// What is left of a tensor behind its last whole chunk waits for another chunk too; what is small goes by itself.
TEST(DigestSink, ChunksOfDifferentSizesArePaired) {
  Model model;
  model.Add("U8", kChunkBytes + 700'000);
  model.Add("U8", 300'000);
  model.Add("U8", 700'000);
  model.Add("U8", 100);
  DigestSink sink(model.catalogue);
  FakeStream stream(model.groups, {.min_piece_elements = kChunkBytes,
                                   .max_piece_elements = kChunkBytes,
                                   .tasks = FakeStream::Tasks::kLast,
                                   .kept_bytes = kChunkBytes});
  Sink* sinks[] = {&sink};
  ASSERT_TRUE(Pump(stream, sinks));
  EXPECT_EQ(stream.num_posted(), 3);
  for (size_t group = 0; group < 4; ++group) {
    EXPECT_EQ(sink.Digests()[group].root, PlainRoot(model.groups[group].outs[0])) << group;
  }
}

TEST(DigestSink, WorksOnThreads) {
  const Model model = MixedModel();
  for (const uint64_t piece : {uint64_t{150'000}, 3 * kChunkBytes}) {
    ExpectRoots(model, {.max_piece_elements = piece, .max_pieces = 3, .tasks = FakeStream::Tasks::kThreads});
  }
}

TEST(DigestSink, TakesTheOutAskedFor) {
  const Model model = MixedModel(2);
  ExpectRoots(model, {.max_piece_elements = kChunkBytes}, 1);
}

TEST(DigestSink, GroupsMayBeInAnyOrder) {
  Model model;
  model.Add("U8", 10);
  model.Add("U8", 2000);
  std::vector<FakeGroup> groups = {model.groups[1], model.groups[0]};
  DigestSink sink(model.catalogue, {1, 0});
  {
    FakeStream stream(groups, {});
    Sink* sinks[] = {&sink};
    ASSERT_TRUE(Pump(stream, sinks));
  }
  EXPECT_EQ(sink.Digests()[0].name, "b");
  EXPECT_EQ(sink.Digests()[0].root, PlainRoot(model.groups[1].outs[0]));
  EXPECT_EQ(sink.Digests()[1].name, "a");
  EXPECT_EQ(sink.Digests()[1].root, PlainRoot(model.groups[0].outs[0]));
}

// FakeStream checks in its destructor that no lease has stayed with the sink.
TEST(DigestSink, LetsGoOfEverythingWhenThePassFails) {
  Model model;
  model.Add("U8", 9 * kChunkBytes);
  for (const int fail_at : {0, 1, 2, 5}) {
    for (const uint64_t piece : {kChunkBytes / 3, 3 * kChunkBytes}) {
      DigestSink sink(model.catalogue);
      FakeStream stream(model.groups,
                        {.max_piece_elements = piece, .tasks = FakeStream::Tasks::kLast, .fail_at = fail_at});
      Sink* sinks[] = {&sink};
      auto result = Pump(stream, sinks);
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().code, ErrorCode::kRead);
    }
  }
}

}  // namespace
}  // namespace sluice::stream
