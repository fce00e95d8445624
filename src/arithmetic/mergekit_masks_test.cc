#include "arithmetic/mergekit_masks.h"

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"

namespace sluice::arithmetic {
namespace {

// A stream asks for what a whole tile needs before it reads: more rows than a piece has. Each need is of an input that
// there is, and they hold the tile, each part once.
TEST(MergekitMasks, MagpruneNeedsOfManyPieces) {
  constexpr uint64_t kColumns = 576, kRows = 400;
  graph::Graph graph;
  const graph::Node* delta = tests::AddFloats(&graph, std::vector<float>(kColumns * kRows));
  const graph::Node* mask =
      AddMagpruneMask(&graph, WorkingType::kBf16, 0.5, 0.1, kColumns, MergekitDraws{.seed = 1, .first = 0}, delta);
  for (const graph::Range out :
       {graph::Range{0, kColumns * kRows}, graph::Range{graph::kBlockElements, 3 * graph::kBlockElements},
        graph::Range{graph::kPieceElements, 2 * graph::kPieceElements}}) {
    graph::NeedList needs;
    mask->Needs(out, &needs);
    ASSERT_FALSE(needs.needs().empty());
    EXPECT_LE(needs.needs().front().range.begin, out.begin);
    EXPECT_GE(needs.needs().back().range.end, out.end);
    uint64_t next = needs.needs().front().range.begin;
    for (const graph::Need& need : needs.needs()) {
      ASSERT_LT(need.input, mask->inputs().size());
      EXPECT_EQ(need.range.begin, next);
      next = need.range.end;
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
