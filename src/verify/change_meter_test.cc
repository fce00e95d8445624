// What ComparisonSink tells of changes: through its own stream, at any threads, tiles and room.
#include "verify/change_meter.h"

#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "base/units.h"
#include "stream/checkpoint_groups.h"
#include "verify/change_summary.h"
#include "verify/comparison_sink.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;
using tests::MakeMemoryCheckpoint;
using tests::MemoryTensor;

struct How {
  int threads = 1;
  uint64_t max_tile_bytes = 1 << 20;
  uint64_t room_bytes = 1 << 30;  // for sketches
};

struct Told {
  std::vector<TensorDiff> unequal;
  GridCounts grids[2];
};

Told Compare(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b, const How& how = {}) {
  const Alignment alignment = Align(a.tensors(), b.tensors());
  const stream::LockstepGroups groups(alignment.Members(a, b));
  MemoryBudget stream_budget(ResidentBytes() + (uint64_t{1} << 30));
  const uint64_t own = ComparisonSink(a, b, alignment, {.num_threads = how.threads}).wants().own_bytes;
  MemoryBudget budget(own + how.room_bytes);
  ComparisonSink sink(a, b, alignment, {.num_threads = how.threads, .budget = &budget});
  stream::StreamOptions options;
  options.num_threads = how.threads;
  options.wants = sink.wants();
  options.budget = &stream_budget;
  options.max_tile_bytes = how.max_tile_bytes;
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream.has_value());
  stream::Sink* const sinks[] = {&sink};
  EXPECT_TRUE(stream::Pump(**stream, sinks).has_value());
  return {sink.Unequal(), {sink.GridsOf(0), sink.GridsOf(1)}};
}

std::vector<float> Normal(uint64_t count, uint32_t seed, float scale = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> Bf16(const std::vector<float>& values) {
  std::vector<uint8_t> bytes(2 * values.size());
  std::vector<float> back(values.size());
  quant::BF16()->encode(values.data(), values.size(), bytes.data());
  quant::BF16()->decode(bytes.data(), values.size(), back.data());
  return back;
}

std::vector<float> PlusLowRank(std::vector<float> values, uint64_t columns, uint64_t rank, uint32_t seed) {
  const uint64_t rows = values.size() / columns;
  const std::vector<float> left = Normal(rows * rank, seed, 0.02f), right = Normal(rank * columns, seed + 1, 0.02f);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      for (uint64_t j = 0; j < rank; ++j) values[r * columns + c] += left[r * rank + j] * right[j * columns + c];
    }
  }
  return values;
}

bool SameDetails(const TensorDetails& x, const TensorDetails& y) {
  const auto same_rank = [](const EffectiveRank& a, const EffectiveRank& b) {
    return a.kind == b.kind && a.reason == b.reason && a.rank == b.rank && a.explained == b.explained &&
           a.residual_ulps == b.residual_ulps && a.least_singular == b.least_singular;
  };
  if (x.rank.has_value() != y.rank.has_value() || (x.rank && !same_rank(*x.rank, *y.rank))) return false;
  if (x.units.has_value() != y.units.has_value()) return false;
  if (x.units && (!(x.units->distances == y.units->distances) || x.units->same != y.units->same)) return false;
  if (x.rows.has_value() != y.rows.has_value()) return false;
  return !x.rows || (x.rows->changed == y.rows->changed && x.rows->ranges == y.rows->ranges);
}

struct Models {
  std::shared_ptr<const checkpoint::Checkpoint> a, b;
};

// A large matrix whose rows end where no piece does, a small one, and an embedding.
Models LoraModels() {
  const std::vector<float> large = Bf16(Normal(1100 * 700, 1)), small = Bf16(Normal(300 * 256, 2)),
                           tokens = Bf16(Normal(1000 * 64, 3));
  std::vector<float> other_tokens = tokens;
  for (const uint64_t row : {0, 1, 2, 500, 998, 999}) other_tokens[row * 64 + row % 64] += 1;
  const char* const kQ = "model.layers.0.self_attn.q_proj.weight";
  const char* const kV = "model.layers.0.self_attn.v_proj.weight";
  const char* const kTokens = "model.embed_tokens.weight";
  return {MakeMemoryCheckpoint(
              "a", {EncodedTensor(kQ, "BF16", {1100, 700}, large), EncodedTensor(kV, "BF16", {300, 256}, small),
                    EncodedTensor(kTokens, "BF16", {1000, 64}, tokens)}),
          MakeMemoryCheckpoint("b", {EncodedTensor(kQ, "BF16", {1100, 700}, PlusLowRank(large, 700, 8, 10)),
                                     EncodedTensor(kV, "BF16", {300, 256}, PlusLowRank(small, 256, 8, 20)),
                                     EncodedTensor(kTokens, "BF16", {1000, 64}, other_tokens)})};
}

TEST(ChangeMeterTest, ALoraIsToldWithItsRankAtAnyThreadsAndTiles) {
  const Models models = LoraModels();
  const Told first = Compare(*models.a, *models.b);
  ASSERT_EQ(first.unequal.size(), 3u);
  for (int i = 1; i < 3; ++i) {
    ASSERT_TRUE(first.unequal[i].details.rank.has_value());
    EXPECT_EQ(first.unequal[i].details.rank->kind, RankKind::kLow);
    EXPECT_EQ(first.unequal[i].details.rank->rank, 8u);
    EXPECT_FALSE(first.unequal[i].details.rows.has_value());
  }
  for (const int threads : {1, 4}) {
    for (const uint64_t tile : {uint64_t{1} << 17, uint64_t{1} << 20}) {
      const Told told = Compare(*models.a, *models.b, {.threads = threads, .max_tile_bytes = tile});
      ASSERT_EQ(told.unequal.size(), 3u);
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(SameDetails(told.unequal[i].details, first.unequal[i].details)) << i;
    }
  }
  const ChangeSummary summary = SummariseChanges(*models.a, first.unequal);
  EXPECT_EQ(
      summary.sentence,
      "the changes are of rank 8 on q_proj, v_proj of layer 0: a LoRA of rank 8 merged in; 1 other tensor changed "
      "in another way");
}

TEST(ChangeMeterTest, RowsOfAnEmbeddingAreTold) {
  const Models models = LoraModels();
  const Told told = Compare(*models.a, *models.b);
  const auto& rows = told.unequal[0].details.rows;
  ASSERT_TRUE(rows.has_value());
  EXPECT_EQ(rows->rows, 1000u);
  EXPECT_EQ(rows->changed, 6u);
  EXPECT_EQ(rows->num_ranges, 3u);
  EXPECT_EQ(rows->ranges, (std::vector<std::pair<uint64_t, uint64_t>>{{0, 2}, {500, 500}, {998, 999}}));
}

TEST(ChangeMeterTest, WithoutRoomATensorIsToldAsNotSketched) {
  const Models models = LoraModels();
  // Nothing; enough for the large one alone; for all.
  const uint64_t large = SketchShape{1100, 700}.MemoryBytes();
  for (const auto& [room, sketched] : {std::pair<uint64_t, int>{4096, 0}, {2 * large + 8192, 1}, {16 * large, 3}}) {
    const Told told = Compare(*models.a, *models.b, {.threads = 2, .room_bytes = room});
    int count = 0;
    for (const TensorDiff& tensor : told.unequal) {
      ASSERT_TRUE(tensor.details.rank.has_value());
      if (tensor.details.rank->kind != RankKind::kNotSketched) {
        ++count;
      } else {
        EXPECT_EQ(tensor.details.rank->reason, "no room for a sketch within --max-memory");
      }
      EXPECT_TRUE(tensor.details.units.has_value());
    }
    EXPECT_EQ(count, sketched) << room;
  }
}

TEST(ChangeMeterTest, ManyLargeTensorsShareFewSketches) {
  std::vector<MemoryTensor> a, b;
  for (int i = 0; i < 12; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".mlp.up_proj.weight";
    const std::vector<float> values = Bf16(Normal(1024 * 600, static_cast<uint32_t>(i)));
    a.push_back(EncodedTensor(name, "BF16", {1024, 600}, values));
    b.push_back(EncodedTensor(name, "BF16", {1024, 600}, i % 2 == 0 ? PlusLowRank(values, 600, 2, 50) : values));
  }
  const Told told = Compare(*MakeMemoryCheckpoint("a", a), *MakeMemoryCheckpoint("b", b), {.threads = 3});
  ASSERT_EQ(told.unequal.size(), 6u);
  for (const TensorDiff& tensor : told.unequal) EXPECT_EQ(tensor.details.rank->rank, 2u) << tensor.name;
}

TEST(ChangeMeterTest, ARoundingHasNoRankWhateverItsRows) {
  std::vector<float> values = Normal(600 * 512, 8);
  for (size_t i = 0; i < 512; ++i) values[512 * 7 + i] *= 64;  // a row with most of the errors
  for (const std::vector<float>& other : {values, PlusLowRank(values, 512, 1, 30)}) {
    const Told told = Compare(*MakeMemoryCheckpoint("a", {EncodedTensor("w", "F32", {600, 512}, values)}),
                              *MakeMemoryCheckpoint("b", {EncodedTensor("w", "BF16", {600, 512}, other)}));
    ASSERT_EQ(told.unequal.size(), 1u);
    const bool rounded = told.unequal[0].tensor_class == TensorClass::kRounded;
    EXPECT_EQ(rounded, other == values);
    EXPECT_EQ(told.unequal[0].details.rank->kind, rounded ? RankKind::kWithinRounding : RankKind::kLow);
    EXPECT_EQ(told.unequal[0].details.rank->rank == 0, rounded);
  }
}

TEST(ChangeMeterTest, UnitsAreOfTheCoarserSide) {
  const std::vector<float> values = Bf16(Normal(100 * 64, 4));
  std::vector<float> other = values;
  for (size_t i = 0; i < 10; ++i) other[i] = values[i] * (1 + 0x1p-6f);    // one or two units of BF16
  for (size_t i = 10; i < 13; ++i) other[i] = values[i] * (1 + 0x1p-20f);  // none
  other[13] = -values[13];
  const auto a = MakeMemoryCheckpoint("a", {EncodedTensor("w", "BF16", {100, 64}, values)});
  const auto b = MakeMemoryCheckpoint("b", {EncodedTensor("w", "F32", {100, 64}, other)});
  const Told told = Compare(*a, *b);
  ASSERT_EQ(told.unequal.size(), 1u);
  const UnitHistogram& units = *told.unequal[0].details.units;
  EXPECT_EQ(units.encoding, "BF16");
  EXPECT_EQ(units.same, 3u);
  EXPECT_EQ(units.distances.sign_changes, 1u);
  EXPECT_EQ(units.distances.total(), 11u);
  EXPECT_EQ(units.distances.counts[0] + units.distances.counts[1] + units.distances.counts[2], 10u);
}

TEST(ChangeMeterTest, ADequantisedSideIsNoticedAlsoWhereBothAreTheSame) {
  const std::vector<float> large = Normal(1000 * 640, 5), small = Normal(64 * 64, 6);
  const auto dequantised = [](const std::vector<float>& values) {
    const quant::Encoding q8 = quant::EncodingByName("Q8_0");
    std::vector<uint8_t> bytes(q8.BytesOf(values.size()));
    std::vector<float> back(values.size());
    q8->encode(values.data(), values.size(), bytes.data());
    q8->decode(bytes.data(), values.size(), back.data());
    return back;
  };
  const auto make = [&](bool quantised) {
    return MakeMemoryCheckpoint("m",
                                {EncodedTensor("large", "BF16", {1000, 640}, quantised ? dequantised(large) : large),
                                 EncodedTensor("norm", "BF16", {64}, std::vector<float>(64, 1.0f)),
                                 EncodedTensor("small", "BF16", {64, 64}, quantised ? dequantised(small) : small)});
  };
  const auto original = make(false), sold = make(true);
  const Told told = Compare(*original, *sold, {.threads = 2});
  EXPECT_EQ(told.grids[0].looked_at, 2u);
  EXPECT_EQ(told.grids[0].total(), 0u);
  EXPECT_EQ(told.grids[1].on[4], 2u);
  ASSERT_EQ(told.unequal.size(), 2u);
  EXPECT_EQ(told.unequal[0].grid_a, "");
  EXPECT_EQ(told.unequal[0].grid_b, "Q8_0");
  const Told same = Compare(*sold, *sold);
  EXPECT_TRUE(same.unequal.empty());
  EXPECT_EQ(same.grids[0].on[4], 2u);
  EXPECT_EQ(same.grids[1].on[4], 2u);
}

TEST(ChangeSummaryTest, Names) {
  EXPECT_EQ(LayerOf("model.layers.12.mlp.up_proj.weight"), 12u);
  EXPECT_FALSE(LayerOf("model.embed_tokens.weight").has_value());
  EXPECT_EQ(KindOfName("model.layers.12.mlp.up_proj.weight"), "up_proj");
  EXPECT_EQ(KindOfName("w"), "w");
  EXPECT_EQ(KindOfName("weight"), "weight");
  EXPECT_EQ(RangesText({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
  EXPECT_EQ(RangesText({}), "");
}

}  // namespace
}  // namespace sluice::verify
