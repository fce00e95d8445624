// Real runs of mergekit 0.1.4, replayed. tests/goldens/mergekit/README.md.
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

nlohmann::json Expected(const std::string& name) {
  std::ifstream file(std::string(kFolder) + "expected/" + name + ".json");
  return nlohmann::json::parse(file);
}

// Its models are named from the goldens' folder, where mergekit ran.
Recipe GoldenRecipe(const std::string& name) {
  std::ifstream file(std::string(kFolder) + "recipes/" + name + ".yml");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return ParseRecipe(std::move(text), std::string(kFolder) + name + ".yml");
}

// f32 arithmetic that leaves no freedom: at most three models (mergekit's sums then run in the models' order too), no
// random masks, a working dtype of float32 (or a copy), and for ties no equal magnitudes at the threshold. exact gives
// mergekit's own bits.
class ExactGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Mergekit, ExactGolden,
                         testing::Values("linear_f32_work", "nearswap_f32", "passthrough_copy",
                                         "task_arithmetic_weights_cancel", "ties_f32"),
                         [](const auto& info) { return std::string(info.param); });

// One tensor in bytes, computed in any pieces and folds.
std::string DigestOf(const RecipeCheckpoint& recipe, size_t place, const tests::RunOptions& options) {
  graph::Graph graph;
  return kernels::ToHex(kernels::HashBytes(tests::NodeRunner(options).Run(recipe.MakeNode(place, &graph))));
}

void ExpectTheSameBits(const std::string& name, const checkpoint::OpenOptions& options) {
  const nlohmann::json expected = Expected(name);
  const auto recipe = OpenRecipe(GoldenRecipe(name), options);
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  for (const nlohmann::json& wanted : expected.at("tensors")) {
    const std::string tensor = wanted.at("name");
    const auto place = (*recipe)->tensors().Find(tensor);
    ASSERT_TRUE(place.has_value()) << tensor;
    EXPECT_EQ((*recipe)->tensors()[*place].encoding.name(), wanted.at("dtype").get<std::string>());
    const auto digest = wanted.at("sha256").get<std::string>();
    EXPECT_EQ(DigestOf(**recipe, *place, {}), digest) << tensor;
    const tests::RunOptions otherwise = {.piece_elements = 96, .threads = 2, .backwards = true, .misalign_bytes = 2};
    EXPECT_EQ(DigestOf(**recipe, *place, otherwise), digest) << tensor << " in other pieces";
  }
}

TEST_P(ExactGolden, HasTheSameBits) { ExpectTheSameBits(GetParam(), {}); }

// mergekit's arithmetic, with the seed of the run: every tensor.
class MergekitGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Mergekit, MergekitGolden,
                         testing::Values("architecture_inferred", "breadcrumbs_default_gamma", "breadcrumbs_plain",
                                         "breadcrumbs_ties_plain", "dare_linear_f32_lambda", "dare_linear_plain",
                                         "dare_ties_deep", "dare_ties_f16", "dare_ties_f32", "dare_ties_no_rescale",
                                         "dare_ties_qwen2", "dare_ties_seed", "dare_ties_seed_7", "della_bf16",
                                         "della_linear_f16", "della_plain", "linear_eight", "linear_extra_tensor",
                                         "linear_f16", "linear_f32_work", "linear_mixed_dtypes", "linear_normalize",
                                         "linear_qwen2", "linear_raw", "linear_shards", "linear_tied", "nearswap_bf16",
                                         "nearswap_f32", "passthrough_copy", "passthrough_out_dtype",
                                         "strings_and_booleans", "task_arithmetic_f16", "task_arithmetic_mixed_dtypes",
                                         "task_arithmetic_plain", "task_arithmetic_weights_cancel", "ties_bf16",
                                         "ties_f16_no_normalize", "ties_f32", "ties_rescale_lambda"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(MergekitGolden, HasTheSameBits) {
  checkpoint::OpenOptions options;
  options.arithmetic = "mergekit";
  options.seed = Expected(GetParam()).at("seed").get<uint64_t>();
  ExpectTheSameBits(GetParam(), options);
}

}  // namespace
}  // namespace sluice::merge
