#include "merge/token_rows.h"

#include <cmath>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "graph/graph.h"

namespace sluice::merge {
namespace {

using Floats = std::vector<float>;
constexpr uint64_t kColumns = 48;

Floats Matrix(uint64_t rows, float start) {
  Floats values(rows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<float>(i) / 64;
  return values;
}

TEST(TokenRows, AreCopiedAveragedOrZeroAtAnyCut) {
  const Floats a = Matrix(700, 0), b = Matrix(500, 1000);
  auto rows = std::make_shared<TokenRows>();
  Floats expected;
  for (uint32_t r = 0; r < 900; ++r) {
    std::vector<TokenRows::Place> places;
    if (r % 3 != 2) places.push_back({0, (r * 7) % 700});
    if (r % 4 == 1) places.push_back({1, (r * 11) % 500});
    rows->AddRow(places);
    for (uint64_t column = 0; column < kColumns; ++column) {
      float sum = 0;
      for (const auto& place : places) sum += (place.input == 0 ? a : b)[place.row * kColumns + column];
      expected.push_back(places.empty() ? 0 : sum / static_cast<float>(places.size()));
    }
  }
  EXPECT_TRUE(rows->PlacesOf(2).empty());
  EXPECT_EQ(rows->PlacesOf(1).size(), 2u);
  for (const uint64_t piece : {8192u, 32u, 1056u}) {
    graph::Graph graph;
    const graph::Node* node = graph.Add(std::make_unique<TokenRowsNode>(
        rows, kColumns, std::vector<const graph::Node*>{tests::AddFloats(&graph, a), tests::AddFloats(&graph, b)}));
    EXPECT_EQ(tests::NodeRunner({.piece_elements = piece}).RunF32(node), expected) << piece;
  }
}

TEST(TokenRows, KnowTheIdentityAndTellMapsApart) {
  TokenRows same, other, fewer;
  for (uint32_t r = 0; r < 5; ++r) same.AddRow(std::vector<TokenRows::Place>{{1, r}});
  for (uint32_t r = 0; r < 5; ++r) other.AddRow(std::vector<TokenRows::Place>{{1, r == 3 ? 4 : r}});
  EXPECT_TRUE(same.IsIdentity(1, 5));
  EXPECT_FALSE(same.IsIdentity(0, 5));
  EXPECT_FALSE(same.IsIdentity(1, 6));
  EXPECT_FALSE(other.IsIdentity(1, 5));
  EXPECT_NE(same.key(), other.key());
  for (uint32_t r = 0; r < 4; ++r) fewer.AddRow(std::vector<TokenRows::Place>{{1, r}});
  fewer.AddRow({});
  EXPECT_FALSE(fewer.IsIdentity(1, 5));
}

TEST(PaddedRows, AreTheMeanOfAllRowsWhateverTheOrderOfBlocks) {
  const uint64_t rows = 3000;  // more than two blocks
  Floats values = Matrix(rows, -1000);
  values[7] = std::nanf("");
  values[8] = 1e13f;
  std::vector<double> sums(kColumns);
  for (size_t i = 0; i < values.size(); ++i) sums[i % kColumns] += values[i];
  Floats expected = values;
  for (int pad = 0; pad < 3; ++pad) {
    for (const double sum : sums) expected.push_back(static_cast<float>(sum / static_cast<double>(rows)));
  }
  for (const uint64_t piece : {8192u, 96u}) {
    graph::Graph graph;
    const graph::Node* node =
        graph.Add(std::make_unique<PaddedRowsNode>(tests::AddFloats(&graph, values), kColumns, rows + 3));
    const Floats out = tests::NodeRunner({.piece_elements = piece}).RunF32(node);
    ASSERT_EQ(out.size(), expected.size());
    for (size_t i = 0; i < out.size(); ++i) {
      if (i == 7 || (i >= rows * kColumns && (i % kColumns == 7 || i % kColumns == 8))) {
        EXPECT_TRUE(std::isnan(out[i])) << i;
      } else {
        ASSERT_EQ(out[i], expected[i]) << i;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::merge
