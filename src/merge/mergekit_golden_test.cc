// Real runs of mergekit 0.1.4, replayed. tests/goldens/mergekit/README.md.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <tuple>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "arithmetic/testing/node_runner.h"
#include "base/check.h"
#include "checkpoint/model_ref.h"
#include "kernels/sha256.h"
#include "merge/recipe_checkpoint.h"
#include "tokenizer/token_table.h"

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
// random masks, a working dtype of float32 (or a copy, or one product), and for ties no equal magnitudes at the
// threshold. exact gives mergekit's own bits.
class ExactGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Mergekit, ExactGolden,
                         testing::Values("architecture_inferred", "linear_f32_work", "linear_gradient", "linear_shards",
                                         "lora_linear", "lora_passthrough_f32", "modules_slices", "nearswap_f32",
                                         "passthrough_copy", "passthrough_franken", "passthrough_scale",
                                         "task_arithmetic_weights_cancel", "ties_f32", "tokenizer_block"),
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
INSTANTIATE_TEST_SUITE_P(
    Mergekit, MergekitGolden,
    testing::Values(
        "dare_ties_density_one", "dare_ties_slices", "linear_gradient", "linear_filters", "linear_embed_mismatch",
        "linear_tied_and_untied", "lora_linear", "lora_linear_float32", "lora_passthrough_f32", "modules_form",
        "modules_slices", "passthrough_franken", "passthrough_scale", "slices_linear", "ties_gradient_density",
        "ties_embed_mismatch", "task_arithmetic_normalize_lambda", "tokenizer_base", "tokenizer_block",
        "tokenizer_dare_ties", "tokenizer_model", "tokenizer_pad", "tokenizer_pad_no_tokens", "tokenizer_padded_input",
        "tokenizer_union", "tokenizer_union_ties", "architecture_inferred", "breadcrumbs_default_gamma",
        "breadcrumbs_plain", "breadcrumbs_ties_plain", "dare_linear_f32_lambda", "dare_linear_plain", "dare_ties_deep",
        "dare_ties_f16", "dare_ties_f32", "dare_ties_no_rescale", "dare_ties_qwen2", "dare_ties_seed",
        "dare_ties_seed_7", "della_bf16", "della_linear_f16", "della_plain", "linear_eight", "linear_extra_tensor",
        "linear_f16", "linear_f32_work", "linear_mixed_dtypes", "linear_normalize", "linear_qwen2", "linear_raw",
        "linear_shards", "linear_tied", "nearswap_bf16", "nearswap_f32", "passthrough_copy", "passthrough_out_dtype",
        "strings_and_booleans", "task_arithmetic_f16", "task_arithmetic_mixed_dtypes", "task_arithmetic_plain",
        "task_arithmetic_weights_cancel", "ties_bf16", "ties_f16_no_normalize", "ties_f32", "ties_rescale_lambda",
        "karcher_bf16", "karcher_f32", "multislerp_base", "multislerp_plain", "nuslerp_base", "nuslerp_column_wise",
        "nuslerp_default", "nuslerp_row_wise", "slerp_far", "slerp_far_f32", "slerp_filters", "slerp_scalar"),
    [](const auto& info) { return std::string(info.param); });

// Of sums over whole tensors; those that a golden says vary with the CPU or a set's order are equal too.
INSTANTIATE_TEST_SUITE_P(MergekitFacts, MergekitGolden,
                         testing::Values("arcee_fusion_bf16", "arcee_fusion_f32", "model_stock_f32",
                                         "model_stock_filter_wise", "model_stock_plain", "sce_all", "sce_topk"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(MergekitGolden, HasTheSameBits) {
  checkpoint::OpenOptions options;
  options.arithmetic = "mergekit";
  options.seed = Expected(GetParam()).at("seed").get<uint64_t>();
  // As the runs' commands say. The stored run of lora_passthrough_f32 is of bfloat16 whatever its command says: run
  // again, that is lora_passthrough_float32.
  const std::string name = GetParam();
  if (name == "lora_linear" || name == "lora_passthrough_f32") options.lora_merge_dtype = quant::BF16();
  ExpectTheSameBits(GetParam(), options);
}

// A model that was cast to float32 before its adapter was applied: PEFT multiplies by a library that orders and fuses
// sums as it likes, so that adapted weights are equal within twice e = (r + 4) u T of docs/lora.md; all else to the
// bit.
TEST(MergekitGoldens, AnAdaptedModelInFloat32IsWithinItsBound) {
  checkpoint::OpenOptions options;
  options.arithmetic = "mergekit";
  const auto recipe = OpenRecipe(GoldenRecipe("lora_passthrough_float32"), options);
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  const std::string folder = kFolder;
  const auto golden = checkpoint::OpenCheckpoint(folder + "expected/lora_passthrough_float32.safetensors", {});
  const auto base = checkpoint::OpenCheckpoint(folder + "models/a_base", {});
  const auto adapter = checkpoint::OpenCheckpoint(folder + "models/lora_a/adapter_model.safetensors", {});
  ASSERT_TRUE(golden.has_value() && base.has_value() && adapter.has_value());
  const auto values = [](const checkpoint::Checkpoint& model, const std::string& name) {
    graph::Graph graph;
    const auto place = model.tensors().Find(name);
    SLUICE_CHECK(place.has_value());
    return tests::NodeRunner().RunF32(graph.AddCast(model.MakeNode(*place, &graph), quant::F32()));
  };
  constexpr uint64_t kRank = 4;
  constexpr double kScale = 2;  // lora_alpha 8 over r 4
  size_t adapted = 0, unequal = 0;
  for (size_t i = 0; i < (*recipe)->tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = (*recipe)->tensors()[i];
    const std::string name(tensor.name);
    EXPECT_EQ(tensor.encoding, quant::F32()) << name;
    const std::vector<float> got = values(**recipe, name), wanted = values(**golden, name);
    ASSERT_EQ(got.size(), wanted.size());
    if (name.find("q_proj") == std::string::npos && name.find("v_proj") == std::string::npos) {
      EXPECT_EQ(got, wanted) << name;
      continue;
    }
    ++adapted;
    const std::string layer = "base_model.model." + name.substr(0, name.size() - std::string("weight").size());
    const std::vector<float> weight = values(**base, name), a = values(**adapter, layer + "lora_A.weight"),
                             b = values(**adapter, layer + "lora_B.weight");
    const uint64_t columns = tensor.shape[1];
    ASSERT_EQ(a.size(), kRank * columns);
    for (size_t k = 0; k < got.size(); ++k) {
      double terms = std::fabs(weight[k]);
      for (uint64_t j = 0; j < kRank; ++j) {
        terms += kScale * std::fabs(double{b[k / columns * kRank + j]} * a[j * columns + k % columns]);
      }
      ASSERT_LE(std::fabs(double{got[k]} - wanted[k]), 2 * (kRank + 4) * 0x1p-24 * terms) << name << " " << k;
      unequal += got[k] != wanted[k] ? 1 : 0;
    }
  }
  EXPECT_EQ(adapted, 6u);
  EXPECT_GT(unequal, 0u);  // else it belongs to those that are equal in every bit
}

// Documents of one file, each with the seed anew; what one document uses of another is computed, not written.
TEST(MergekitGoldens, EveryDocumentHasTheSameBits) {
  const nlohmann::json expected = Expected("multi_document");
  checkpoint::OpenOptions options;
  options.openers.push_back(OpenRecipeReference);
  options.arithmetic = "mergekit";
  options.seed = expected.at("seed").get<uint64_t>();
  const Recipe whole = GoldenRecipe("multi_document");
  size_t compared = 0;
  for (const char* document : {"", "step1", "step2"}) {
    const std::string folder = *document == 0 ? "final/" : fmt::format("steps/{}/", document);
    const auto recipe = OpenRecipe(ParseRecipe(whole.text, whole.path, {}, document), options);
    ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
    for (const nlohmann::json& wanted : expected.at("tensors")) {
      if (!wanted.at("file").get<std::string>().starts_with(folder)) continue;
      const std::string tensor = wanted.at("name");
      const auto place = (*recipe)->tensors().Find(tensor);
      ASSERT_TRUE(place.has_value()) << tensor;
      EXPECT_EQ(DigestOf(**recipe, *place, {}), wanted.at("sha256").get<std::string>()) << document << " " << tensor;
      ++compared;
    }
  }
  EXPECT_EQ(compared, expected.at("tensors").size());
}

// mergekit rounds each step to the type that torch gives it, of models of several types another one each time.
TEST(MergekitGoldens, ModelsOfSeveralTypesAreRefusedWhereStepsAreRoundedToSeveral) {
  for (const char* method : {"model_stock", "sce"}) {
    const std::string text = fmt::format(
        "merge_method: {}\nbase_model: models/a_base\nmodels:\n  - model: models/a_ft1\n  - model: models/f_ft1\n",
        method);
    const auto open = [&](const std::string& more) {
      checkpoint::OpenOptions options;
      options.arithmetic = "mergekit";
      return OpenRecipe(ParseRecipe(text + more, std::string(kFolder) + "mixed.yml"), options);
    };
    const auto refused = open("");
    ASSERT_FALSE(refused.has_value());
    EXPECT_THAT(refused.error().ToString(), testing::HasSubstr("F32"));
    EXPECT_THAT(refused.error().ToString(), testing::HasSubstr("say what they are to be cast to, dtype"));
    const auto opened = open("dtype: bfloat16\n");
    EXPECT_TRUE(opened.has_value()) << opened.error().ToString();
  }
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Mergekit, TokenizerGolden,
                         testing::Values("tokenizer_base", "tokenizer_block", "tokenizer_dare_ties", "tokenizer_model",
                                         "tokenizer_pad", "tokenizer_pad_no_tokens", "tokenizer_padded_input",
                                         "tokenizer_union", "tokenizer_union_ties"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(TokenizerGolden, HasTheSameTokens) {
  const nlohmann::json expected = Expected(GetParam());
  const auto recipe = OpenRecipe(GoldenRecipe(GetParam()), {});
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  const auto table = tokenizer::ReadTokenTable((*recipe)->side_files());
  ASSERT_TRUE(table.has_value() && table->has_value());
  const std::vector<std::string> tokens = expected.at("vocab");
  EXPECT_EQ((*table)->end(), tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) EXPECT_EQ((*table)->Find(tokens[id]), id) << tokens[id];
  std::vector<std::tuple<uint32_t, std::string, bool>> added;
  for (const tokenizer::AddedEntry& entry : (*table)->added) {
    added.emplace_back(entry.id, entry.content, entry.settings.at("special"));
  }
  // A token that a rule names is added anew by mergekit, as one that is not special; here it stays what it is.
  if (std::string(GetParam()) != "tokenizer_block") EXPECT_EQ(added, expected.at("added_tokens"));
  // mergekit drops rows that no token has; here they stay.
  const uint64_t rows =
      std::string(GetParam()) == "tokenizer_padded_input" ? 64 : expected.at("config").at("vocab_size").get<uint64_t>();
  EXPECT_EQ((*recipe)->config()->json().at("vocab_size"), rows);
  for (const char* name : {"lm_head.weight", "model.embed_tokens.weight"}) {
    EXPECT_EQ((*recipe)->tensors()[*(*recipe)->tensors().Find(name)].shape[0], rows) << name;
  }
}

// Outputs that are stored, of arithmetic that comes close: how far exact may be from mergekit, in roundings of the
// working dtype (half a unit in the last place) of the tensor's largest number.
struct CloseCase {
  const char* name;
  double roundings;
};
class CloseGolden : public testing::TestWithParam<CloseCase> {};
INSTANTIATE_TEST_SUITE_P(Mergekit, CloseGolden,
                         testing::Values(
                             // f32 within, then bf16: two results on either side of a tie are two roundings apart.
                             CloseCase{"slerp_scalar", 2},
                             // f32: unit vectors 2, their product and its sum over 4,096 at most (numpy adds in pairs)
                             // 10, which moves a factor by less; factors, products and sum 4. Vectors of up to twice
                             // the result.
                             CloseCase{"slerp_far_f32", 32},
                             // bf16: weights, products, sum, the weights' sum and the quotient 1 each, ours 1; weights
                             // that add up to 1 of numbers of up to 4/3 of the result.
                             CloseCase{"linear_eight", 8}),
                         [](const auto& info) { return std::string(info.param.name); });

std::vector<float> Values(const checkpoint::Checkpoint& model, size_t i) {
  graph::Graph graph;
  return tests::NodeRunner().RunF32(graph.AddCast(model.MakeNode(i, &graph), quant::F32()));
}

TEST_P(CloseGolden, IsWithinRoundings) {
  const std::string name = GetParam().name;
  const auto recipe = OpenRecipe(GoldenRecipe(name), {});
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  const auto expected = checkpoint::OpenCheckpoint(std::string(kFolder) + "expected/" + name + ".safetensors", {});
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  ASSERT_EQ((*recipe)->tensors().size(), (*expected)->tensors().size());
  for (size_t i = 0; i < (*expected)->tensors().size(); ++i) {
    const checkpoint::TensorInfo wanted = (*expected)->tensors()[i];
    const auto place = (*recipe)->tensors().Find(wanted.name);
    ASSERT_TRUE(place.has_value()) << wanted.name;
    ASSERT_EQ((*recipe)->tensors()[*place].encoding, wanted.encoding);
    const std::vector<float> ours = Values(**recipe, *place), theirs = Values(**expected, i);
    double largest = 0, difference = 0;
    for (size_t e = 0; e < theirs.size(); ++e) {
      largest = std::max(largest, std::fabs(static_cast<double>(theirs[e])));
      difference = std::max(difference, std::fabs(static_cast<double>(ours[e]) - static_cast<double>(theirs[e])));
    }
    const double rounding = std::ldexp(1.0, -static_cast<int>(wanted.encoding->significand_bits));
    EXPECT_LE(difference, GetParam().roundings * rounding * largest) << wanted.name;
  }
}

// What mergekit refuses is refused, but for two faults of its own: it wants a folder for a LoRA, and fails at a row of
// zeros.
TEST(Goldens, AreRefusedWhereMergekitRefuses) {
  size_t refused = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::string(kFolder) + "recipes")) {
    const std::string name = file.path().stem();
    if (Expected(name).at("result") != "error" || name == "error_lora_no_cache" || name == "error_tokenizer_zero") {
      continue;
    }
    const auto recipe = OpenRecipe(GoldenRecipe(name), {});
    EXPECT_FALSE(recipe.has_value()) << name;
    if (recipe) continue;
    EXPECT_THAT(recipe.error().context, testing::Each(testing::HasSubstr(name + ".yml:"))) << name;
    ++refused;
  }
  EXPECT_EQ(refused, 20u);
}

}  // namespace
}  // namespace sluice::merge
