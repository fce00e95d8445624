#include "infer/token_batch.h"

#include <gtest/gtest.h>

namespace sluice::infer {
namespace {

TokenBatch BatchOf(std::initializer_list<uint64_t> lengths) {
  std::vector<std::vector<uint32_t>> sequences;
  for (const uint64_t length : lengths) sequences.emplace_back(length, 7);
  return TokenBatch(std::move(sequences));
}

TEST(TokenBatch, TilesOfSequences) {
  const TokenBatch batch = BatchOf({1, 16, 17, 40});
  EXPECT_EQ(batch.num_tokens(), 74u);
  EXPECT_EQ(batch.longest(), 40u);
  ASSERT_EQ(batch.num_tiles(), 1u + 1 + 2 + 3);
  EXPECT_EQ(batch.first_tile(3), 4u);
  EXPECT_EQ(batch.tile(0).num_tokens, 1u);
  EXPECT_EQ(batch.tile(3).num_tokens, 1u);
  EXPECT_EQ(batch.tile(3).index, 1u);
  EXPECT_EQ(batch.tile(6).num_tokens, 8u);
  EXPECT_EQ(batch.tile(6).sequence, 3u);
}

// Each tile once and in order; a chunk is of whole sequences or of one alone; its keys begin at a sequence.
TEST(TokenBatch, ChunksAreOfWholeSequencesOrPartsOfOne) {
  for (const auto& batch : {BatchOf({1, 16, 17, 40}), BatchOf({512, 512, 100}), BatchOf({1000, 3, 3, 700, 20})}) {
    for (const uint64_t max_tiles : {1, 2, 3, 5, 32, 1000}) {
      uint64_t next = 0;
      for (const TokenBatch::Chunk& chunk : batch.Chunks(max_tiles)) {
        EXPECT_EQ(chunk.begin, next);
        EXPECT_LE(chunk.count, max_tiles);
        next += chunk.count;
        EXPECT_EQ(batch.first_tile(batch.tile(chunk.keys_begin).sequence), chunk.keys_begin);
        const uint32_t first = batch.tile(chunk.begin).sequence, last = batch.tile(next - 1).sequence;
        EXPECT_EQ(chunk.keys_begin, batch.first_tile(first));
        if (first != last) {
          EXPECT_EQ(chunk.begin, chunk.keys_begin);
          EXPECT_TRUE(next == batch.num_tiles() || batch.tile(next).index == 0);
        }
      }
      EXPECT_EQ(next, batch.num_tiles());
    }
  }
}

}  // namespace
}  // namespace sluice::infer
