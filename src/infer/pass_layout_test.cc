#include "infer/pass_layout.h"

#include <gtest/gtest.h>

namespace sluice::infer {
namespace {

// Ten sequences of 8 tiles, a KiB a tile: 80 KiB of hidden states. Twenty steps of 10 KiB. A tile of a chunk takes 1
// KiB.
PassDemand SmallDemand() {
  PassDemand demand;
  demand.sequence_tiles.assign(10, 8);
  demand.hidden_tile_bytes = 1024;
  demand.step_bytes.assign(20, 10 * 1024);
  demand.stream_bytes = 20 * 1024;
  demand.spill_moved_bytes = 2 * 20 * 80 * 1024;
  demand.working_bytes = [](uint64_t chunk_tiles, bool) { return chunk_tiles * 1024; };
  return demand;
}

PassLayout LayOut(const PassDemand& demand, uint64_t free_kib) {
  return LayOutPass(demand, {.free_bytes = free_kib * 1024});
}

TEST(PassLayout, OneRoundWhereHiddenStatesFit) {
  const PassLayout layout = LayOut(SmallDemand(), 20 + 32 + 80);
  EXPECT_EQ(layout.chunk_tiles, 32u);
  EXPECT_FALSE(layout.spill);
  EXPECT_EQ(layout.round_ends, std::vector<size_t>{10});
  EXPECT_EQ(layout.kept_steps, 0u);  // nothing is read twice
}

TEST(PassLayout, ShorterChunksBeforeASecondRound) {
  const PassLayout layout = LayOut(SmallDemand(), 20 + 8 + 80);
  EXPECT_EQ(layout.chunk_tiles, 8u);
  EXPECT_EQ(layout.num_rounds(), 1u);
}

TEST(PassLayout, RoundsOfWholeSequences) {
  // 20 KiB for hidden states: two sequences, five rounds. A kept step would take the room of the second.
  const PassLayout layout = LayOut(SmallDemand(), 20 + 32 + 20);
  EXPECT_EQ(layout.chunk_tiles, 32u);
  EXPECT_FALSE(layout.spill);
  EXPECT_EQ(layout.round_ends, (std::vector<size_t>{2, 4, 6, 8, 10}));
  EXPECT_EQ(layout.kept_steps, 0u);
}

TEST(PassLayout, WeightsThatFitBesideASequenceStay) {
  // All twenty steps need 250 KiB: then nothing is read again, however many rounds there are.
  PassDemand demand = SmallDemand();
  demand.sequence_tiles.assign(1000, 8);
  const PassLayout layout = LayOut(demand, 20 + 32 + 250 + 9);
  EXPECT_FALSE(layout.spill);
  EXPECT_EQ(layout.kept_steps, 20u);
  EXPECT_EQ(layout.kept_bytes, 200u * 1024);
  EXPECT_EQ(layout.num_rounds(), 1000u);
}

TEST(PassLayout, SomeOfTheWeightsStayInRoomThatRoundsLeave) {
  // 50 KiB hold six sequences of ten, so two rounds; five in each leave 10 KiB: four steps of 2 KiB with their slack.
  PassDemand demand = SmallDemand();
  demand.step_bytes.assign(100, 2 * 1024);
  const PassLayout layout = LayOut(demand, 20 + 32 + 50);
  EXPECT_EQ(layout.round_ends, (std::vector<size_t>{5, 10}));
  EXPECT_EQ(layout.kept_steps, 4u);
}

TEST(PassLayout, AFileWhereItMovesLess) {
  PassDemand demand = SmallDemand();
  demand.spill_moved_bytes = 100 * 1024;  // less than one reading of the weights
  const PassLayout layout = LayOut(demand, 20 + 32 + 20);
  EXPECT_TRUE(layout.spill);
  EXPECT_EQ(layout.num_rounds(), 1u);
  EXPECT_FALSE(LayOutPass(demand, {.free_bytes = 72 * 1024, .spill = Spill::kIfForced}).spill);
}

TEST(PassLayout, AFileForASequenceThatIsTooLong) {
  PassDemand demand = SmallDemand();
  demand.sequence_tiles = {80};
  EXPECT_TRUE(LayOut(demand, 20 + 32 + 20).spill);
}

TEST(PassLayout, TheLeastWhereNothingFits) {
  const PassLayout layout = LayOut(SmallDemand(), 1);
  EXPECT_TRUE(layout.spill);
  EXPECT_EQ(layout.chunk_tiles, 1u);
  EXPECT_EQ(layout.num_rounds(), 1u);
}

TEST(PassLayout, LimitsAreKept) {
  const PassDemand demand = SmallDemand();
  const PassLayout layout =
      LayOutPass(demand, {.free_bytes = 1 << 20, .max_chunk_tiles = 3, .max_round_tiles = 17, .max_kept_bytes = 55000});
  EXPECT_EQ(layout.chunk_tiles, 3u);
  EXPECT_EQ(layout.round_ends, (std::vector<size_t>{2, 4, 6, 8, 10}));
  EXPECT_EQ(layout.kept_steps, 5u);
  EXPECT_TRUE(LayOutPass(demand, {.free_bytes = 1 << 20, .spill = Spill::kAlways}).spill);
}

// Of the twenty steps the last four are the head's, which passes twice.
PassDemand WithHeadTwice() {
  PassDemand demand = SmallDemand();
  demand.num_head_steps = 4;
  demand.head_runs = 2;
  return demand;
}

TEST(PassLayout, AHeadThatPassesTwiceStaysWhereItFits) {
  const PassLayout layout = LayOut(WithHeadTwice(), 20 + 32 + 80 + 50);
  EXPECT_EQ(layout.chunk_tiles, 32u);
  EXPECT_EQ(layout.num_rounds(), 1u);
  EXPECT_EQ(layout.kept_steps, 4u);
  EXPECT_EQ(layout.kept_bytes, 40u * 1024);
  EXPECT_EQ(layout.reread_bytes, 0u);
  const std::vector<size_t> order = OrderOfKeeping(WithHeadTwice());
  EXPECT_EQ((std::vector<size_t>(order.begin(), order.begin() + 5)), (std::vector<size_t>{16, 17, 18, 19, 0}));
  EXPECT_EQ(OrderOfKeeping(SmallDemand()).front(), 0u);
}

TEST(PassLayout, ShorterChunksBeforeAHeadIsReadTwice) {
  EXPECT_EQ(LayOut(WithHeadTwice(), 20 + 4 + 80 + 50).chunk_tiles, 4u);
  EXPECT_EQ(LayOut(WithHeadTwice(), 20 + 4 + 80 + 50).kept_steps, 4u);
  // Where that does not suffice either, long chunks, and what fits of the head.
  const PassLayout part = LayOut(WithHeadTwice(), 20 + 32 + 80 + 13);
  EXPECT_EQ(part.chunk_tiles, 32u);
  EXPECT_EQ(part.num_rounds(), 1u);
  EXPECT_EQ(part.kept_steps, 1u);
  EXPECT_EQ(part.reread_bytes, 30u * 1024);
}

TEST(PassLayout, RoundsKeepTheHeadFirst) {
  // Of 70 KiB two panels take 25 and five sequences 40: two rounds, in which layers come once again and the rest of the
  // head three times. One panel fewer is read again more often, one more makes three rounds.
  const PassLayout layout = LayOutPass(WithHeadTwice(), {.free_bytes = (20 + 32 + 70) * 1024, .max_round_tiles = 79});
  EXPECT_EQ(layout.round_ends, (std::vector<size_t>{5, 10}));
  EXPECT_EQ(layout.kept_steps, 2u);
  EXPECT_EQ(layout.reread_bytes, (160u + 3 * 20) * 1024);
}

TEST(PassLayout, AFileLeavesRoomForTheHead) {
  PassDemand demand = WithHeadTwice();
  demand.spill_moved_bytes = 100 * 1024;
  const PassLayout layout = LayOut(demand, 20 + 32 + 20 + 6);
  EXPECT_TRUE(layout.spill);
  EXPECT_EQ(layout.kept_steps, 2u);
  EXPECT_EQ(layout.reread_bytes, 20u * 1024);
}

}  // namespace
}  // namespace sluice::infer
