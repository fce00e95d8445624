#include "arithmetic/draw_plan.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::arithmetic {
namespace {

using testing::ElementsAre;

TEST(DrawPlan, GoesByLabelInByteOrder) {
  DrawPlan plan;
  const std::array<uint64_t, 2> draws = {100, 7};
  for (const char* name : {"model.layers.2.x", "model.layers.10.x", "model.layers.1.x", "lm_head.weight"}) {
    plan.Add(name, name, draws);
  }
  plan.Finish();
  EXPECT_THAT(plan.FirstDraws(3), ElementsAre(0, 100));
  EXPECT_THAT(plan.FirstDraws(2), ElementsAre(107, 207));
  EXPECT_THAT(plan.FirstDraws(1), ElementsAre(214, 314));
  EXPECT_THAT(plan.FirstDraws(0), ElementsAre(321, 421));
  EXPECT_EQ(plan.total(), 428u);
}

TEST(DrawPlan, LetsModelsDrawNothing) {
  DrawPlan plan;
  plan.Add("a", "a", std::array<uint64_t, 3>{5, 0, 5});
  plan.Add("b", "b", std::array<uint64_t, 1>{2});
  plan.Finish();
  EXPECT_THAT(plan.FirstDraws(0), ElementsAre(0, 5, 5));
  EXPECT_THAT(plan.FirstDraws(1), ElementsAre(10));
}

// A tied head bears the embedding's name and goes after it; of layers that come from one place the first in the output
// goes first, whatever the order in which they were added.
TEST(DrawPlan, TakesEqualLabelsInOrderOfTheOutput) {
  DrawPlan plan;
  const std::array<uint64_t, 1> draws = {10};
  plan.Add("model.embed_tokens.weight", "lm_head.weight", draws);
  plan.Add("model.embed_tokens.weight", "model.embed_tokens.weight", draws);
  plan.Add("model.layers.1.x", "model.layers.10.x", draws);
  plan.Add("model.layers.1.x", "model.layers.9.x", draws);
  plan.Finish();
  EXPECT_THAT(plan.FirstDraws(1), ElementsAre(0));
  EXPECT_THAT(plan.FirstDraws(0), ElementsAre(10));
  EXPECT_THAT(plan.FirstDraws(3), ElementsAre(20));
  EXPECT_THAT(plan.FirstDraws(2), ElementsAre(30));
}

}  // namespace
}  // namespace sluice::arithmetic
