// Recipes whose f32 arithmetic leaves no freedom give mergekit's own bits. tests/goldens/mergekit/README.md.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/sha256.h"
#include "merge/recipe_checkpoint.h"
#include "merge/testing/node_runner.h"

namespace sluice::merge {
namespace {

constexpr char kFolder[] = SLUICE_SOURCE_DIR "/tests/goldens/mergekit/";

class MergekitGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Recipes, MergekitGolden,
                         testing::Values("linear_f32_work", "nearswap_f32", "passthrough_copy",
                                         "task_arithmetic_weights_cancel", "ties_f32"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(MergekitGolden, HasTheSameBits) {
  std::ifstream file(std::string(kFolder) + "expected.json");
  const nlohmann::json expected = nlohmann::json::parse(file).at(GetParam());
  const auto recipe = OpenRecipe(*ReadRecipe(std::string(kFolder) + GetParam() + ".yml"), {});
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  ASSERT_EQ((*recipe)->tensors().size(), expected.at("tensors").size());
  for (const nlohmann::json& wanted : expected.at("tensors")) {
    const std::string name = wanted.at("name");
    const auto place = (*recipe)->tensors().Find(name);
    ASSERT_TRUE(place.has_value()) << name;
    EXPECT_EQ((*recipe)->tensors()[*place].encoding.name(), wanted.at("dtype").get<std::string>());
    graph::Graph graph;
    const std::vector<uint8_t> bytes = tests::NodeRunner().Run((*recipe)->MakeNode(*place, &graph));
    EXPECT_EQ(kernels::ToHex(kernels::HashBytes(bytes)), wanted.at("sha256").get<std::string>()) << name;
  }
}

}  // namespace
}  // namespace sluice::merge
