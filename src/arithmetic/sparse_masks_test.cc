#include "arithmetic/sparse_masks.h"

#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "arithmetic/mask_key.h"
#include "arithmetic/testing/node_runner.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {
namespace {

constexpr PhiloxKey kKey = {0x12345678, 0x9abcdef0};

TEST(RowRotation, ComparesEachColumnWithAnother) {
  for (const uint64_t columns : {2, 3, 7, 32, 96, 256, 320, 768, 4096}) {
    for (uint64_t row = 0; row < 20; ++row) {
      const RowRotation rotation(kKey, row, columns);
      EXPECT_EQ(columns % rotation.unit(), 0u);
      std::set<uint64_t> others;
      for (uint64_t column = 0; column < columns; ++column) {
        const uint64_t other = rotation.Of(column);
        EXPECT_LT(other, columns);
        EXPECT_NE(other, column);
        EXPECT_EQ(other / rotation.unit() * rotation.unit(), rotation.FirstOfUnit(column / rotation.unit()));
        others.insert(other);
      }
      EXPECT_EQ(others.size(), columns) << columns << " " << row;
    }
  }
}

TEST(RowRotation, EveryOtherColumnIsAsLikely) {
  constexpr uint64_t kColumns = 96, kRows = 95 * 400;
  std::vector<int> counts(kColumns);
  for (uint64_t row = 0; row < kRows; ++row) ++counts[RowRotation(kKey, row, kColumns).Of(17)];
  EXPECT_EQ(counts[17], 0);
  // 400 expected of each, with a standard deviation of 20: within six of them.
  for (uint64_t column = 0; column < kColumns; ++column) {
    if (column != 17) EXPECT_NEAR(counts[column], 400, 120) << column;
  }
}

// Which elements a mask of `count` keeps.
std::vector<bool> KeptBy(const uint8_t* bits, uint64_t count) {
  std::vector<bool> kept(count);
  for (uint64_t i = 0; i < count; ++i)
    kept[i] = (MaskBitsOf({bits, {}})[i / kMaskWordBits] >> i % kMaskWordBits & 1) != 0;
  return kept;
}
std::vector<bool> KeptBy(const graph::Node* node) {
  return KeptBy(tests::NodeRunner().Run(node).data(), node->num_elements());
}

std::vector<bool> KeptByRank(const std::vector<float>& x, const std::vector<float>& base, const RankMask& mask) {
  graph::Graph graph;
  return KeptBy(
      graph.Add(std::make_unique<RankMaskNode>(tests::AddFloats(&graph, x), tests::AddFloats(&graph, base), mask)));
}

// della's definition: kept with probability low + (high - low) rank / (columns - 1).
TEST(RankMask, KeepsByRank) {
  constexpr uint64_t kColumns = 24, kRows = 20000;
  std::vector<float> x(kColumns * kRows), base(x.size());
  // The rank of column c is 7 c mod 24; signs vary.
  for (uint64_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(1 + 7 * (i % kColumns) % kColumns) * (i % 2 == 0 ? 1.0f : -1.0f);
  }
  const double low = 0.35, high = 0.85;
  const RankMask mask = {kKey, kColumns, KeepBelow(low), KeepBelow(high)};
  const std::vector<bool> is_kept = KeptByRank(x, base, mask);
  std::vector<double> kept(kColumns);
  for (uint64_t i = 0; i < x.size(); ++i) kept[7 * (i % kColumns) % kColumns] += is_kept[i] ? 1 : 0;
  for (uint64_t rank = 0; rank < kColumns; ++rank) {
    const double p = low + (high - low) * static_cast<double>(rank) / (kColumns - 1);
    // Six standard deviations of a binomial share.
    EXPECT_NEAR(kept[rank] / kRows, p, 6 * std::sqrt(p * (1 - p) / kRows)) << rank;
  }
}

TEST(RankMask, EqualMagnitudesRankByIndex) {
  constexpr uint64_t kColumns = 32, kRows = 20000;
  const std::vector<float> same(kColumns * kRows, 0.5f), base(same.size());
  const RankMask mask = {kKey, kColumns, 0, uint64_t{1} << 32};  // always compared
  const std::vector<bool> is_kept = KeptByRank(same, base, mask);
  std::vector<double> kept(kColumns);
  for (uint64_t i = 0; i < is_kept.size(); ++i) kept[i % kColumns] += is_kept[i] ? 1 : 0;
  EXPECT_EQ(kept[0], 0);
  EXPECT_EQ(kept[kColumns - 1], kRows);
  for (uint64_t column = 0; column < kColumns; ++column) {
    const double p = static_cast<double>(column) / (kColumns - 1);
    EXPECT_NEAR(kept[column] / kRows, p, 6 * std::sqrt(0.25 / kRows)) << column;
  }
}

TEST(BandMask, DropsBothEnds) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {1, -5, 3, 3, nan, 2, 3, 0}, base(x.size());
  const auto kept = [&](const BandMask& mask) {
    uint32_t bits = 0;
    BandMaskBits(mask, 0, x.size(), x.data(), base.data(), &bits);
    std::string text;
    for (size_t i = 0; i < x.size(); ++i) text += (bits >> i & 1) != 0 ? '1' : '0';
    return text;
  };
  // Order: NaN, -5, 3 (element 2), 3 (3), 3 (6), 2, 1, 0.
  const MagnitudeRanks::Rank third = {MagnitudeBitsOf(3, 0), 2}, fifth = {MagnitudeBitsOf(3, 0), 6};
  EXPECT_EQ(kept({.has_top = true, .has_bottom = true, .top = third, .bottom = fifth}), "00010010");
  EXPECT_EQ(kept({.has_top = true, .top = third}), "10010111");
  EXPECT_EQ(kept({.has_bottom = true, .bottom = fifth}), "01111010");
  EXPECT_EQ(kept({.has_top = true, .top = {MagnitudeBitsOf(nan, 0), 4}}), "11110111");
}

// As docs/formats/mask.md has it, element by element: rows within a piece, rows cut by pieces and blocks, rows longer
// than either, and columns that no vector divides.
TEST(RankMaskNode, IsTheFormat) {
  for (const auto& [columns, rows] : {std::pair<uint64_t, uint64_t>{576, 300},
                                      {7168, 20},
                                      {9984, 15},
                                      {70000, 2},
                                      {33, 600},
                                      {100, 200},
                                      {2, 5000}}) {
    std::vector<float> x(columns * rows), base(x.size());
    for (uint64_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i * 2654435761u % 61) - 30;  // magnitudes that tie
      base[i] = static_cast<float>(i * 40503u % 7);
    }
    const RankMask mask = {kKey, columns, KeepBelow(0.2), KeepBelow(0.9)};
    const std::vector<bool> kept = KeptByRank(x, base, mask);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < x.size(); ++i) {
      const uint64_t row = i / columns, other = row * columns + RowRotation(kKey, row, columns).Of(i % columns);
      const float magnitude = std::fabs(x[i] - base[i]), than = std::fabs(x[other] - base[other]);
      const bool is_larger = magnitude > than || (magnitude == than && i > other);
      const uint64_t word = kernels::RandomMaskWord(kKey, i);
      const bool is_kept = word < mask.low || (word < mask.high && is_larger);
      wrong += kept[i] != is_kept ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u) << columns;
  }
}

TEST(RandomMaskNode, IsTheFormat) {
  for (const uint64_t count : {1, 31, 32, 33, 8191, 8192, 70001}) {
    graph::Graph graph;
    const std::vector<bool> kept = KeptBy(graph.Add(std::make_unique<RandomMaskNode>(kKey, KeepBelow(0.3), count)));
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; ++i) {
      wrong += kept[i] != (kernels::RandomMaskWord(kKey, i) < KeepBelow(0.3)) ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u) << count;
  }
}

// Ties end within words.
TEST(BandMask, KeepsWhatStandsBetween) {
  constexpr uint64_t kCount = 1000, kFirst = 4096;
  std::vector<float> x(kCount), base(kCount);
  for (uint64_t i = 0; i < kCount; ++i) x[i] = static_cast<float>(i * 7 % 11) - 5;
  const BandMask mask = {.has_top = true,
                         .has_bottom = true,
                         .top = {MagnitudeBitsOf(5, 0), kFirst + 500},
                         .bottom = {MagnitudeBitsOf(2, 0), kFirst + 700}};
  std::vector<uint32_t> bits((kCount + 31) / 32);
  BandMaskBits(mask, kFirst, kCount, x.data(), base.data(), bits.data());
  const std::vector<bool> kept = KeptBy(reinterpret_cast<const uint8_t*>(bits.data()), kCount);
  for (uint64_t i = 0; i < kCount; ++i) {
    const float magnitude = std::fabs(x[i]);
    const bool is_top = magnitude == 5 && i <= 500;
    EXPECT_EQ(kept[i], !is_top && (magnitude > 2 || (magnitude == 2 && i <= 700))) << i;
  }
}

// Needs are whole units of columns, so that the blocks of a parent's encoding are never cut.
TEST(RankMaskNode, NeedsWholeBlocks) {
  graph::Graph graph;
  constexpr uint64_t kColumns = 768, kRows = 100;
  const graph::Node* x = tests::AddFloats(&graph, std::vector<float>(kColumns * kRows, 1.0f));
  const graph::Node* base = tests::AddFloats(&graph, std::vector<float>(kColumns * kRows));
  const RankMaskNode node(x, base, {kKey, kColumns, 0, 1});
  for (uint64_t begin = 0; begin < kColumns * kRows; begin += graph::kPieceElements) {
    graph::NeedList needs;
    const graph::Range out = {begin, std::min(begin + graph::kPieceElements, kColumns * kRows)};
    node.Needs(out, &needs);
    EXPECT_LE(needs.needs().size(), 2 * node.MostNeeds());
    uint64_t total = 0;
    for (const graph::Need& need : needs.needs()) {
      EXPECT_EQ(need.range.begin % 256, 0u);
      EXPECT_EQ(need.range.end % 256, 0u);
      total += need.range.size();
    }
    const uint64_t cut = (kColumns - begin % kColumns) % kColumns + out.end % kColumns;
    EXPECT_EQ(total, 2 * (out.size() + cut));
  }
}

// Of a parent in blocks of 32 (Q8_0: an f16 scale and 32 bytes) as of its numbers.
TEST(RankMaskNode, WorksOnQuantisedParents) {
  constexpr uint64_t kColumns = 96, kRows = 300, kCount = kColumns * kRows;
  std::vector<uint8_t> blocks;
  std::vector<float> x, base(kCount, 0.25f);
  for (uint64_t block = 0; block < kCount / 32; ++block) {
    blocks.insert(blocks.end(), {0x00, 0x2C});  // 0.0625
    for (uint64_t i = 0; i < 32; ++i) {
      const auto value = static_cast<int8_t>((block * 37 + i * 11) % 251 - 125);
      blocks.push_back(static_cast<uint8_t>(value));
      x.push_back(0.0625f * static_cast<float>(value));
    }
  }
  graph::Graph graph;
  const graph::Node* stored = graph.AddStored(tests::MemoryBytes(blocks), 0, quant::EncodingByName("Q8_0"), kCount);
  const graph::Node* b = tests::AddFloats(&graph, base);
  const auto run = [&](const graph::Node* of) {
    const RankMask mask = {kKey, kColumns, KeepBelow(0.3), KeepBelow(0.7)};
    return KeptBy(graph.Add(std::make_unique<RankMaskNode>(of, b, mask)));
  };
  EXPECT_EQ(run(graph.AddCast(stored, quant::F32())), run(tests::AddFloats(&graph, x)));
}

}  // namespace
}  // namespace sluice::arithmetic
