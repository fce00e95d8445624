#include "merge/recipe_checkpoint.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "base/check.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/recording_source.h"
#include "kernels/convert.h"

namespace sluice::merge {
namespace {

using checkpoint::OpenOptions;
using checkpoint::Problem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

OpenOptions WithRecipes() {
  OpenOptions options;
  options.openers.push_back(OpenRecipeReference);
  return options;
}

class RecipeCheckpointTest : public testing::Test {
 protected:
  // Writes the recipe into the folder and opens it.
  Result<std::shared_ptr<const RecipeCheckpoint>> Open(const std::string& text,
                                                       const OpenOptions& options = WithRecipes()) {
    tests::WriteText(dir_ / "r.yml", text);
    Result<Recipe> recipe = ReadRecipe(dir_ / "r.yml");
    if (!recipe) return Fail(std::move(recipe).error());
    return OpenRecipe(std::move(*recipe), options);
  }
  // The errors, without the folder's name.
  std::vector<std::string> ErrorsOf(const std::string& text, const OpenOptions& options = WithRecipes()) {
    const auto opened = Open(text, options);
    if (opened) return {};
    EXPECT_EQ(opened.error().code, ErrorCode::kRecipe) << opened.error().ToString();
    std::vector<std::string> errors = opened.error().context;
    for (std::string& error : errors) {
      for (size_t at = error.find(dir_.path() + "/"); at != std::string::npos; at = error.find(dir_.path() + "/")) {
        error.erase(at, dir_.path().size() + 1);
      }
    }
    return errors;
  }
  std::shared_ptr<const RecipeCheckpoint> Good(const std::string& text, const OpenOptions& options = WithRecipes()) {
    auto opened = Open(text, options);
    if (!opened) {
      ADD_FAILURE() << opened.error().ToString();
      return nullptr;
    }
    return *opened;
  }
  std::string Llama(const std::string& name, const tests::TinyLlama& options) {
    return tests::MakeTinyLlama(dir_ / name, options);
  }
  static std::vector<std::string> Messages(const checkpoint::Checkpoint& checkpoint, Problem::Severity severity) {
    std::vector<std::string> messages;
    for (const Problem& problem : checkpoint.problems()) {
      if (problem.severity == severity) messages.push_back(problem.message);
    }
    return messages;
  }
  static std::vector<float> Floats(const std::vector<uint8_t>& bf16) {
    std::vector<float> floats(bf16.size() / 2);
    for (size_t i = 0; i < floats.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, &bf16[2 * i], 2);
      floats[i] = kernels::reference::Bf16ToF32(bits);
    }
    return floats;
  }
  static std::vector<uint8_t> Tensor(const checkpoint::Checkpoint& checkpoint, std::string_view name) {
    const auto place = checkpoint.tensors().Find(name);
    SLUICE_CHECK(place.has_value());
    graph::Graph graph;
    return tests::NodeRunner().Run(checkpoint.MakeNode(*place, &graph));
  }

  tests::TempDir dir_;
};

constexpr char kTwoOfOneBase[] =
    "merge_method: task_arithmetic\nbase_model: base\n"
    "models:\n  - {model: one, parameters: {weight: 0.5}}\n  - {model: two, parameters: {weight: 0.25}}\n"
    "dtype: float32\n";

TEST_F(RecipeCheckpointTest, IsTheCheckpointThatTheRecipeMakes) {
  Llama("base", {.seed = 1});
  Llama("one", {.seed = 1, .update_seed = 2, .shards = 3});
  Llama("two", {.seed = 1, .update_seed = 3});
  const auto recipe = Good(kTwoOfOneBase);
  ASSERT_NE(recipe, nullptr);
  const auto base = *checkpoint::OpenCheckpoint(dir_ / "base", {});
  const auto one = *checkpoint::OpenCheckpoint(dir_ / "one", {});
  const auto two = *checkpoint::OpenCheckpoint(dir_ / "two", {});
  ASSERT_EQ(recipe->tensors().size(), base->tensors().size());
  for (size_t i = 0; i < base->tensors().size(); ++i) {
    const checkpoint::TensorInfo made = recipe->tensors()[i], theirs = base->tensors()[i];
    EXPECT_EQ(made.name, theirs.name);
    EXPECT_EQ(made.encoding, quant::F32());
    EXPECT_TRUE(std::ranges::equal(made.shape, theirs.shape));
  }
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const auto b = Tensor(*base, name), x1 = Tensor(*one, name), x2 = Tensor(*two, name), out = Tensor(*recipe, name);
  ASSERT_EQ(out.size(), 2 * b.size());
  for (size_t i = 0; i < b.size() / 2; ++i) {
    const auto value = [&](const std::vector<uint8_t>& bytes) {
      uint16_t bits;
      std::memcpy(&bits, &bytes[2 * i], 2);
      return kernels::reference::Bf16ToF32(bits);
    };
    const float mixed = 0.5f * (value(x1) - value(b)) + 0.25f * (value(x2) - value(b));
    float made;
    std::memcpy(&made, &out[4 * i], 4);
    ASSERT_EQ(made, value(b) + mixed) << i;
  }
  EXPECT_EQ(recipe->kind(), "recipe");
  EXPECT_EQ(recipe->ref(), dir_ / "r.yml");
  EXPECT_EQ(recipe->files().size(), 1u + 3u + 1u);
  EXPECT_EQ(recipe->side_files().size(), base->side_files().size());
  EXPECT_EQ(recipe->config()->json()["torch_dtype"], "float32");
  EXPECT_EQ(recipe->dtype(), "float32");
  ASSERT_EQ(recipe->parents().size(), 3u);
  EXPECT_TRUE(recipe->parents()[0].is_base);
  EXPECT_EQ(recipe->parents()[1].reference, "one");
  EXPECT_EQ(recipe->parents()[1].path, dir_ / "one");
  EXPECT_EQ(recipe->parents()[1].size_bytes, base->tensors().total_bytes());
}

TEST_F(RecipeCheckpointTest, OpensEachParentOnceInAnySpelling) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  std::filesystem::create_directory_symlink(dir_ / "base", dir_ / "link");
  int opened = 0;
  OpenOptions options = WithRecipes();
  options.open_source = [&](const std::string& path) {
    ++opened;
    return io::OpenFile(path);
  };
  const auto recipe =
      Good("merge_method: ties\nbase_model: " + dir_.path() +
               "//base/\nmodels:\n  - model: ./link\n  - {model: one/., parameters: {weight: 1, density: 0.5}}\n",
           options);
  ASSERT_NE(recipe, nullptr);
  EXPECT_EQ(opened, 2);
  EXPECT_EQ(recipe->parents().size(), 2u);
}

TEST_F(RecipeCheckpointTest, AListedBaseIsNotMerged) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  const std::string tail =
      "  - {model: one, parameters: {weight: 0.7, density: 0.5}}\nparameters: {rescale: density}\n";
  const auto listed = Good("merge_method: dare_ties\nbase_model: base\nmodels:\n  - model: base\n" + tail);
  const auto unlisted = Good("merge_method: dare_ties\nbase_model: base\nmodels:\n" + tail);
  ASSERT_TRUE(listed && unlisted);
  EXPECT_EQ(Tensor(*listed, "lm_head.weight"), Tensor(*unlisted, "lm_head.weight"));
  const auto weighted =
      Good("merge_method: dare_ties\nbase_model: base\nmodels:\n  - {model: base, parameters: {weight: 1}}\n" + tail);
  EXPECT_THAT(Messages(*weighted, Problem::Severity::kNote),
              ElementsAre("'base' is the base: its parameters have no effect"));
}

TEST_F(RecipeCheckpointTest, TheFlagsSeedWinsOverTheRecipes) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  const std::string text =
      "merge_method: dare_linear\nbase_model: base\nmodels:\n  - {model: one, parameters: {weight: 1, density: 0.5}}\n"
      "parameters: {rescale: false}\n";
  EXPECT_EQ(Good(text)->seed(), 0u);
  const auto seven = Good(text + "sluice: {seed: 7}\n");
  EXPECT_EQ(seven->seed(), 7u);
  OpenOptions options = WithRecipes();
  options.seed = 9;
  const auto nine = Good(text + "sluice: {seed: 7}\n", options);
  EXPECT_EQ(nine->seed(), 9u);
  EXPECT_NE(Tensor(*seven, "lm_head.weight"), Tensor(*nine, "lm_head.weight"));
  EXPECT_EQ(Tensor(*Good(text + "sluice: {seed: 9}\n"), "lm_head.weight"), Tensor(*nine, "lm_head.weight"));
}

TEST_F(RecipeCheckpointTest, TheFlagsArithmeticWinsOverTheRecipes) {
  Llama("base", {});
  const std::string text = "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}]\n";
  EXPECT_STREQ(Good(text)->arithmetic(), "exact");
  EXPECT_STREQ(Good(text + "sluice: {arithmetic: mergekit}\n")->arithmetic(), "mergekit");
  OpenOptions options = WithRecipes();
  options.arithmetic = "mergekit";
  EXPECT_STREQ(Good(text, options)->arithmetic(), "mergekit");
  options.arithmetic = "exact";
  EXPECT_STREQ(Good(text + "sluice: {arithmetic: mergekit}\n", options)->arithmetic(), "exact");
}

TEST_F(RecipeCheckpointTest, TheDtypeOfAdaptedModelsIsOfMergekitsArithmetic) {
  Llama("base", {});
  const std::string text = "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}]\n";
  EXPECT_EQ(Good(text + "sluice: {arithmetic: mergekit}\n")->lora_merge_dtype(), quant::F32());
  EXPECT_EQ(Good(text + "sluice: {arithmetic: mergekit, lora_merge_dtype: float16}\n")->lora_merge_dtype(),
            quant::F16());
  EXPECT_THAT(ErrorsOf(text + "sluice: {lora_merge_dtype: float16}\n"),
              ElementsAre(HasSubstr("lora_merge_dtype, is of mergekit's arithmetic")));
}

TEST_F(RecipeCheckpointTest, WhatMergekitsArithmeticCannotDo) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  const std::string text =
      "merge_method: dare_linear\nbase_model: base\nmodels:\n  - {model: one, parameters: {weight: 1, density: 0.5}}\n";
  EXPECT_THAT(ErrorsOf(text + "sluice: {arithmetic: mergekit, seed: 4294967296}\n"),
              ElementsAre(HasSubstr("seed 4294967296 is too large for mergekit's arithmetic")));
  EXPECT_NE(Good(text + "sluice: {arithmetic: mergekit, seed: 4294967295}\n"), nullptr);
  for (const char* rescale : {"density", "[{filter: mlp, value: density}, {value: true}]"}) {
    EXPECT_THAT(
        ErrorsOf(fmt::format("{}parameters: {{rescale: {}}}\nsluice: {{arithmetic: mergekit}}\n", text, rescale)),
        ElementsAre(HasSubstr("rescale: density is not mergekit's: say true or false")));
  }
}

// Each tensor in the type that torch would compute it in, and stored so.
TEST_F(RecipeCheckpointTest, MergekitsArithmeticPromotes) {
  Llama("half", {.dtype = "F16"});
  Llama("brain", {.update_seed = 2, .dtype = "BF16"});
  const std::string models =
      "models:\n  - {model: half, parameters: {weight: 1}}\n  - {model: brain, parameters: {weight: 1}}\n"
      "sluice: {arithmetic: mergekit}\n";
  const auto encoding = [&](const std::string& text) { return Good(text)->tensors()[0].encoding; };
  EXPECT_EQ(encoding("merge_method: linear\n" + models), quant::F32());
  EXPECT_EQ(encoding("merge_method: task_arithmetic\nbase_model: half\n" + models), quant::F16());
  EXPECT_EQ(encoding("merge_method: linear\ndtype: bfloat16\n" + models), quant::BF16());
  EXPECT_EQ(encoding("merge_method: linear\ndtype: bfloat16\nout_dtype: float16\n" + models), quant::F16());
}

TEST_F(RecipeCheckpointTest, TheOutputsDtype) {
  Llama("half", {.dtype = "F16"});
  Llama("full", {.update_seed = 2, .dtype = "F32"});
  const std::string text =
      "merge_method: linear\nmodels:\n  - {model: half, parameters: {weight: 1}}\n  - {model: full, parameters: "
      "{weight: 1}}\n";
  const auto encoding = [&](const std::string& more) { return Good(text + more)->tensors()[0].encoding; };
  EXPECT_EQ(encoding(""), quant::F16());  // the first model's
  EXPECT_EQ(encoding("dtype: bfloat16\n"), quant::BF16());
  EXPECT_EQ(encoding("dtype: bfloat16\nout_dtype: float32\n"), quant::F32());
  EXPECT_EQ(Good(text)->config()->json(), (*checkpoint::OpenCheckpoint(dir_ / "half", {}))->config()->json());
  EXPECT_EQ(Good(text + "dtype: bfloat16\n")->config()->json()["torch_dtype"], "bfloat16");
}

TEST_F(RecipeCheckpointTest, TellsErrorsOfTextAndOfModelsTogether) {
  Llama("base", {});
  Llama("wide", {.hidden = 128});
  Llama("short", {.layers = 1, .update_seed = 4});
  EXPECT_THAT(
      ErrorsOf("merge_method: ties\n"
               "base_model: base\n"
               "models:\n"
               "  - {model: gone, parameters: {weight: 1}}\n"
               "  - {model: wide, parameters: {weight: 1}}\n"
               "  - {model: short}\n"
               "  - {model: org/name, parameters: {weight: 1, density: 2}}\n"
               "dtyp: float32\n"),
      ElementsAre("r.yml:4:13: 'gone' does not exist, neither beside the recipe nor in the working directory",
                  HasSubstr("r.yml:5:13: 'wide' has tensors of another shape: lm_head.weight is [96, 128] there and "
                            "[96, 64] in 'base'; model.embed_tokens.weight is"),
                  HasSubstr("r.yml:6:13: 'short' lacks tensors that are to be merged: "
                            "model.layers.1.input_layernorm.weight; "),
                  "r.yml:6:13: 'short' has no weight: give it one, or one for all under the top level's parameters",
                  HasSubstr("r.yml:7:13: "), "r.yml:7:56: density 2 is outside 0 to 1",
                  "r.yml:8:1: unknown key 'dtyp' in a recipe: did you mean 'dtype'?"));
}

TEST_F(RecipeCheckpointTest, RefusesWhatCannotBeMerged) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  Llama("more", {.vocab = 100});
  Llama("tied", {.update_seed = 3, .tied = true});
  tests::WriteText(Llama("qwen", {.update_seed = 2}) + "/config.json", "{\"architectures\": [\"Qwen2ForCausalLM\"]}");
  const std::string one = "models: [{model: one, parameters: {weight: 1, density: 0.5}}]\n";
  const auto model = [](const std::string& name) {
    return "models: [{model: " + name + ", parameters: {weight: 1}}]\n";
  };
  struct Case {
    std::string text, error;
  };
  const Case cases[] = {
      {"merge_method: ties\n" + one, "r.yml:1:15: ties needs a base to take differences from: say base_model: PATH"},
      {"merge_method: ties\nbase_model: base\nmodels: [{model: base}]\n",
       "r.yml:1:15: ties needs at least 1 model beside the base, there are 0"},
      {"merge_method: ties\nbase_model: base\nparameters: {density: 0}\n" + model("one"),
       "r.yml:4:18: 'one' cannot be trimmed so: lm_head.weight: density 0 of 6144 elements keeps none: use "},
      {"merge_method: ties\nbase_model: base\nparameters: {density: 0.01}\n" + model("one"),
       "r.yml:4:18: 'one' cannot be trimmed so: model.layers.0.input_layernorm.weight: density 0.01 of 64 elements "
       "keeps none"},
      {"merge_method: linear\nbase_model: base\n" + model("one"),
       "r.yml:2:13: base_model 'base' is not among the models, and linear merges it with them: list it with a weight, "
       "or leave "
       "base_model out"},
      {"merge_method: linear\nmodels: [{model: one}, {model: base, parameters: {weight: 1}}]\n",
       "r.yml:2:18: 'one' has no weight"},
      {"merge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}, {model: ./one/, parameters: {weight: "
       "1}}]\n",
       "r.yml:2:57: './one/' is listed twice, first on line 2: list it once, with one weight"},
      {"merge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}, {model: base, parameters: {weight: "
       "-1}}]\n",
       "r.yml:1:15: the weights add up to 0, and normalize divides by that"},
      {"merge_method: ties\nbase_model: base\n" + model("more"),
       "r.yml:3:18: 'more' has another vocabulary: lm_head.weight is [100, 64] there and [96, 64] in 'base'; "
       "model.embed_tokens.weight is [100, 64] there and [96, 64] in 'base'; say which tokens "
       "the result has, tokenizer_source: union for instance"},
      {"merge_method: ties\nbase_model: base\n" + model("qwen"),
       "r.yml:3:18: 'qwen' is a Qwen2ForCausalLM, 'base' a LlamaForCausalLM: different architectures do not merge"},
      {"merge_method: ties\nbase_model: base\n" + model("one+lora"),
       "r.yml:3:18: 'lora' does not exist, neither beside the recipe"},
      {"merge_method: ties\nbase_model: base\n" + model("one+"),
       "r.yml:3:18: 'one+': a '+' stands between a model and its adapter"},
      {"merge_method: ties\nbase_model: base\n" + model("one+base"),
       "r.yml:3:18: base: there is no adapter_config.json in the folder"},
      {"merge_method: ties\nbase_model: base\n" + model("r.yml+base"), "r.yml:3:18: 'r.yml' is this recipe"},
      {"merge_method: ties\nbase_model: base\n" + model("one+a+b"), "r.yml:3:18: 'one+a+b' has a second '+'"},
      {"merge_method: ties\nbase_model: base\n" + model("org/one@main"),
       "r.yml:3:18: org/one@main: there is no such path, and the hub cache in"},
      {"merge_method: ties\nbase_model: base\n" + model("./one@main"),
       "r.yml:3:18: './one@main': a revision is of a model in the hub cache, org/name@revision"},
      {"merge_method: passthrough\nslices: [{sources: [{model: one, layer_range: [1, 5]}]}]\n",
       "r.yml:2:29: 'one' has 2 layers, there is no layer 2"},
      {"merge_method: ties\nbase_model: base\nslices: [{sources: [{model: one, layer_range: [0, 1], parameters: "
       "{weight: 1}}]}]\n",
       "r.yml:3:10: ties needs the base in each slice: list 'base' among the sources"},
      {"merge_method: passthrough\nslices: [{sources: [{model: one, layer_range: [0, 1]}, {model: base, layer_range: "
       "[0, 1]}]}]\n",
       "r.yml:2:10: passthrough takes at most 1 model, there are 2"},
      {"merge_method: linear\nmodels: [{model: one, parameters: {weight: [{filter: mlp, value: 1}]}}]\n",
       "r.yml:2:18: 'one' has no weight for lm_head.weight; model.embed_tokens.weight; "
       "model.layers.0.input_layernorm.weight; and 12 more: no filter matches; end the list with one without a filter"},
      {"merge_method: linear\nmodels: [{model: one, parameters: {weight: [1, 0]}}]\n",
       "r.yml:1:15: the weights add up to 0, and normalize divides by that"},
      {"merge_method: ties\nbase_model: base\n" + model("org/one@a@b"), "r.yml:3:18: 'org/one@a@b' has a second '@'"},
      {"merge_method: ties\nbase_model: base\n" + model("r.yml"), "r.yml:3:18: 'r.yml' is this recipe"},
      {"merge_method: ties\nbase_model: base\n" + model("/nowhere/at/all"),
       "r.yml:3:18: '/nowhere/at/all' does not exist"},
  };
  for (const Case& c : cases) EXPECT_THAT(ErrorsOf(c.text), ElementsAre(testing::StartsWith(c.error))) << c.text;
}

TEST_F(RecipeCheckpointTest, AParentMayHaveAnAdapter) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  const std::string adapter = dir_ / "lora", module = "base_model.model.model.layers.0.self_attn.q_proj";
  std::filesystem::create_directories(adapter);
  tests::WriteSafetensors(adapter + "/adapter_model.safetensors",
                          {tests::RandomTensor(module + ".lora_A.weight", "F32", {4, 64}, 1, 0.3f),
                           tests::RandomTensor(module + ".lora_B.weight", "F32", {64, 4}, 2, 0.3f)});
  tests::WriteText(adapter + "/adapter_config.json", R"({"peft_type":"LORA","r":4})");
  for (const char* reference :
       {"one+lora", "./one/+./lora", "{model: one, lora: lora}", "{model: {path: one}, lora: {path: lora}}"}) {
    const auto opened =
        Open(std::string("merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}, {model: ") +
             (reference[0] == '{' ? reference : "'" + std::string(reference) + "'") + ", parameters: {weight: 1}}]\n");
    ASSERT_TRUE(opened) << opened.error().ToString();
    EXPECT_EQ((*opened)->files().size(), 3u) << reference;
  }
  // The model with and without its adapter are two models.
  EXPECT_TRUE(
      Open("merge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}, {model: one+lora, parameters: "
           "{weight: 1}}]\n"));
}

TEST_F(RecipeCheckpointTest, AParentThatCannotBeReadIsNotTheRecipesFault) {
  Llama("base", {});
  tests::WriteText(Llama("one", {.update_seed = 2}) + "/model.safetensors",
                   "version https://git-lfs.github.com/spec/v1\n");
  const auto opened = Open("merge_method: ties\nbase_model: base\nmodels: [{model: one, parameters: {weight: 1}}]\n");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().message, HasSubstr("r.yml:3:18: "));
}

TEST_F(RecipeCheckpointTest, ATiedModelsHeadIsItsEmbedding) {
  Llama("base", {.dtype = "F32"});
  Llama("tied", {.update_seed = 2, .dtype = "F32", .tied = true});
  const auto recipe =
      Good("merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: tied, parameters: {weight: 1}}]\n");
  ASSERT_NE(recipe, nullptr);
  EXPECT_THAT(Messages(*recipe, Problem::Severity::kNote),
              ElementsAre("'tied' is tied: its embedding is merged as its head"));
  const auto head = Tensor(*recipe, "lm_head.weight");
  const auto embedding = Tensor(**checkpoint::OpenCheckpoint(dir_ / "tied", {}), "model.embed_tokens.weight");
  // b + (x - b): x but for the rounding of a difference and a sum, each at most half a unit in the last place of values
  // below 1.
  for (size_t i = 0; i < head.size(); i += 4) {
    float made, wanted;
    std::memcpy(&made, &head[i], 4);
    std::memcpy(&wanted, &embedding[i], 4);
    ASSERT_NEAR(made, wanted, 0x1p-23);
  }
}

TEST_F(RecipeCheckpointTest, OneHeadOfItsOwnGivesTheResultOne) {
  Llama("tied", {.seed = 1, .tied = true});
  Llama("own", {.seed = 1, .update_seed = 2});
  const auto recipe = Good(
      "merge_method: linear\nmodels:\n  - {model: tied, parameters: {weight: 1}}\n  - {model: own, parameters: "
      "{weight: "
      "0}}\n");
  ASSERT_NE(recipe, nullptr);
  EXPECT_THAT(Messages(*recipe, Problem::Severity::kNote),
              ElementsAre(HasSubstr("'own' has a head of its own: the result has one too"),
                          "'tied' is tied: its embedding is merged as its head",
                          HasSubstr("its config does not tie it to the embedding")));
  EXPECT_FALSE(recipe->config()->TiedEmbeddings());
  EXPECT_EQ(Tensor(*recipe, "lm_head.weight"), Tensor(*recipe, "model.embed_tokens.weight"));
  const auto tied = *checkpoint::OpenCheckpoint(dir_ / "tied", {});
  EXPECT_EQ(Tensor(*recipe, "lm_head.weight"), Tensor(*tied, "model.embed_tokens.weight"));
}

TEST_F(RecipeCheckpointTest, SlicesStackLayersOfSeveralModels) {
  Llama("one", {.seed = 1});
  Llama("two", {.seed = 2});
  const auto recipe = Good(
      "merge_method: passthrough\nslices:\n"
      "  - sources: [{model: one, layer_range: [0, 2]}]\n"
      "  - sources: [{model: two, layer_range: [0, 1]}]\n"
      "  - sources: [{model: two, layer_range: [0, 2], parameters: {scale: [1, 0]}}]\n");
  ASSERT_NE(recipe, nullptr);
  EXPECT_EQ(recipe->config()->json()["num_hidden_layers"], 5);
  const auto one = *checkpoint::OpenCheckpoint(dir_ / "one", {});
  const auto two = *checkpoint::OpenCheckpoint(dir_ / "two", {});
  const auto layer = [](int i) { return fmt::format("model.layers.{}.mlp.up_proj.weight", i); };
  EXPECT_EQ(Tensor(*recipe, layer(0)), Tensor(*one, layer(0)));
  EXPECT_EQ(Tensor(*recipe, layer(1)), Tensor(*one, layer(1)));
  EXPECT_EQ(Tensor(*recipe, layer(2)), Tensor(*two, layer(0)));
  EXPECT_EQ(Tensor(*recipe, layer(3)), Tensor(*two, layer(0)));
  EXPECT_THAT(Tensor(*recipe, layer(4)), testing::Each(testing::AnyOf(0, 0x80)));  // times 0
  EXPECT_EQ(Tensor(*recipe, "model.embed_tokens.weight"), Tensor(*one, "model.embed_tokens.weight"));
  EXPECT_EQ(Tensor(*recipe, "model.norm.weight"), Tensor(*two, "model.norm.weight"));
  EXPECT_EQ(Tensor(*recipe, "lm_head.weight"), Tensor(*two, "lm_head.weight"));
  EXPECT_FALSE(recipe->tensors().Find(layer(5)));
}

// Slices of tied models and others: the config, which is the first slice's or the base's, must say what the files hold.
TEST_F(RecipeCheckpointTest, SlicesOfTiedModelsHaveTheHeadThatTheirConfigSays) {
  Llama("own", {.seed = 1});
  Llama("tied", {.seed = 2, .tied = true});
  const auto recipe_of = [](const std::string& first, const std::string& last, const std::string& more = "") {
    return fmt::format(
        "merge_method: passthrough\n{}slices:\n  - sources: [{{model: {}, layer_range: [0, 1]}}]\n"
        "  - sources: [{{model: {}, layer_range: [1, 2]}}]\n",
        more, first, last);
  };
  const auto own = *checkpoint::OpenCheckpoint(dir_ / "own", {}), tied = *checkpoint::OpenCheckpoint(dir_ / "tied", {});
  const auto embedding = [](const checkpoint::Checkpoint& model) { return Tensor(model, "model.embed_tokens.weight"); };

  const auto to_tied = Good(recipe_of("own", "tied"));
  ASSERT_NE(to_tied, nullptr);
  EXPECT_FALSE(to_tied->config()->TiedEmbeddings());
  EXPECT_EQ(embedding(*to_tied), embedding(*own));
  ASSERT_TRUE(to_tied->tensors().Find("lm_head.weight"));  // or a loader would draw one by chance
  EXPECT_EQ(Tensor(*to_tied, "lm_head.weight"), embedding(*tied));

  for (const auto& from_tied : {Good(recipe_of("tied", "own")), Good(recipe_of("own", "own", "base_model: tied\n"))}) {
    ASSERT_NE(from_tied, nullptr);
    EXPECT_EQ(Tensor(*from_tied, "lm_head.weight"), Tensor(*own, "lm_head.weight"));
    EXPECT_FALSE(from_tied->config()->TiedEmbeddings());  // or a loader would not look at it
    EXPECT_THAT(Messages(*from_tied, Problem::Severity::kNote),
                testing::Contains(HasSubstr("the result has a head of its own, so its config does not tie it")));
  }

  const auto all_tied = Good(recipe_of("tied", "tied"));
  ASSERT_NE(all_tied, nullptr);
  EXPECT_TRUE(all_tied->config()->TiedEmbeddings());
  EXPECT_FALSE(all_tied->tensors().Find("lm_head.weight"));
}

// GPT-NeoX's head is called embed_out: it stands behind the layers all the same.
TEST_F(RecipeCheckpointTest, SlicesTakeGptNeoxsHeadFromTheLast) {
  for (const auto& [name, seed] : {std::pair("one", 1), std::pair("two", 2)}) {
    std::filesystem::create_directories(dir_ / name);
    std::vector<tests::TestTensor> tensors;
    for (const char* tensor :
         {"gpt_neox.embed_in.weight", "gpt_neox.layers.0.mlp.dense_h_to_4h.weight",
          "gpt_neox.layers.1.mlp.dense_h_to_4h.weight", "gpt_neox.final_layer_norm.weight", "embed_out.weight"}) {
      tensors.push_back(tests::RandomTensor(tensor, "F32", {4, 8}, static_cast<uint64_t>(seed)));
    }
    tests::WriteSafetensors(dir_ / name + "/model.safetensors", tensors);
    tests::WriteText(dir_ / name + "/config.json", R"({"model_type": "gpt_neox", "num_hidden_layers": 2})");
  }
  const auto recipe = Good(
      "merge_method: passthrough\nslices:\n  - sources: [{model: one, layer_range: [0, 1]}]\n"
      "  - sources: [{model: two, layer_range: [1, 2]}]\n");
  ASSERT_NE(recipe, nullptr);
  const auto one = *checkpoint::OpenCheckpoint(dir_ / "one", {}), two = *checkpoint::OpenCheckpoint(dir_ / "two", {});
  EXPECT_EQ(Tensor(*recipe, "gpt_neox.embed_in.weight"), Tensor(*one, "gpt_neox.embed_in.weight"));
  EXPECT_EQ(Tensor(*recipe, "gpt_neox.final_layer_norm.weight"), Tensor(*two, "gpt_neox.final_layer_norm.weight"));
  EXPECT_EQ(Tensor(*recipe, "embed_out.weight"), Tensor(*two, "embed_out.weight"));
}

// A number that no layer has is part of a name like any other: its tensor is merged, and costs no memory.
TEST_F(RecipeCheckpointTest, ANumberThatNoLayerHasDropsNothing) {
  for (const char* number : {"18446744073709551615", "4611686018427387904", "4294967297"}) {
    const std::string name = fmt::format("model.layers.{}.w.weight", number);
    Llama("odd", {});
    auto tensors = tests::TinyLlamaTensors({});
    tensors.push_back(tests::RandomTensor(name, "BF16", {4}, 1));
    tests::WriteSafetensors(dir_ / "odd/model.safetensors", tensors);
    const auto recipe = Good("merge_method: linear\nmodels: [{model: odd, parameters: {weight: 1}}]\n");
    ASSERT_NE(recipe, nullptr);
    ASSERT_TRUE(recipe->tensors().Find(name)) << name;
    EXPECT_EQ(Tensor(*recipe, name), tensors.back().bytes);
  }
}

TEST_F(RecipeCheckpointTest, DifferencesOfASliceAreFromTheBasesLayers) {
  Llama("base", {.seed = 1});
  Llama("one", {.seed = 1, .update_seed = 2});
  const auto recipe = Good(
      "merge_method: task_arithmetic\nbase_model: base\ndtype: float32\nslices:\n"
      "  - sources:\n"
      "      - {model: one, layer_range: [1, 2], parameters: {weight: 1}}\n"
      "      - {model: base, layer_range: [0, 1]}\n");
  ASSERT_NE(recipe, nullptr);
  const auto base = *checkpoint::OpenCheckpoint(dir_ / "base", {});
  const auto one = *checkpoint::OpenCheckpoint(dir_ / "one", {});
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const auto b = Floats(Tensor(*base, name)), x = Floats(Tensor(*one, "model.layers.1.mlp.up_proj.weight"));
  const std::vector<uint8_t> bytes = Tensor(*recipe, name);
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  ASSERT_EQ(out.size(), b.size());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], b[i] + (x[i] - b[i]));
}

TEST_F(RecipeCheckpointTest, DocumentsOfOneFileAreModelsOfEachOther) {
  Llama("base", {.seed = 1});
  Llama("one", {.seed = 1, .update_seed = 2});
  const std::string step = "name: step\nmerge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}]\n";
  const std::string end =
      "merge_method: dare_linear\nbase_model: base\nmodels: [{model: step, parameters: {weight: 1, density: 0.5}}]\n";
  const auto recipe = Good(step + "---\n" + end),
             alone = Good(end.substr(0, end.find("step")) + "one" + end.substr(end.find("step") + 4));
  ASSERT_TRUE(recipe && alone);
  EXPECT_EQ(Tensor(*recipe, "lm_head.weight"), Tensor(*alone, "lm_head.weight"));
  // Each document is a model by itself, and the flags are for all of them.
  tests::WriteText(dir_ / "r.yml", step + "---\n" + end);
  EXPECT_TRUE(checkpoint::OpenCheckpoint(dir_ / "r.yml#step", WithRecipes()).has_value());
  OpenOptions options = WithRecipes();
  options.arithmetic = "fast";
  const auto opened = Open(step + "---\n" + end, options);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().context, testing::Contains(HasSubstr("'step'")).Times(0));
  EXPECT_THAT(ErrorsOf("name: a\nmerge_method: linear\nmodels: [{model: b, parameters: {weight: 1}}]\n---\n"
                       "name: b\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n---\n"
                       "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"),
              ElementsAre(HasSubstr("r.yml#a' is this recipe, or one that it is a part of")));
}

// What a statement tells, the seed and the arithmetic of the document that was merged, makes all documents again.
TEST_F(RecipeCheckpointTest, TheSeedOfADocumentIsThatOfThoseItUses) {
  Llama("base", {.seed = 1});
  Llama("one", {.seed = 1, .update_seed = 2});
  const auto recipe_of = [](const std::string& of_step, const std::string& of_end) {
    return "name: step\nmerge_method: dare_linear\nbase_model: base\n" + of_step +
           "models: [{model: one, parameters: {weight: 1, density: 0.5}}]\n---\n" + of_end +
           "merge_method: linear\nmodels: [{model: step, parameters: {weight: 1}}]\n";
  };
  const auto head = [&](const std::string& text, std::optional<uint64_t> seed = std::nullopt,
                        std::optional<std::string> arithmetic = std::nullopt) {
    OpenOptions options = WithRecipes();
    options.seed = seed;
    options.arithmetic = std::move(arithmetic);
    const auto recipe = Good(text, options);
    SLUICE_CHECK(recipe != nullptr);
    const auto made = Tensor(*recipe, "lm_head.weight");
    options.seed = recipe->seed();  // as it is made again from its statement
    options.arithmetic = recipe->arithmetic();
    EXPECT_EQ(Tensor(*Good(text, options), "lm_head.weight"), made) << text;
    return made;
  };
  const std::string five = "sluice: {seed: 5}\n", seven = "sluice: {seed: 7}\n";
  const auto with_five = head(recipe_of("", five));
  EXPECT_NE(with_five, head(recipe_of("", "")));
  EXPECT_EQ(with_five, head(recipe_of("", ""), 5));
  EXPECT_EQ(with_five, head(recipe_of("", seven), 5));
  EXPECT_EQ(with_five, head(recipe_of(five, seven)));  // its own
  EXPECT_EQ(with_five, head(recipe_of(five, ""), 9));
  const auto as_mergekit = head(recipe_of("", "sluice: {arithmetic: mergekit}\n"));
  EXPECT_EQ(as_mergekit, head(recipe_of("", ""), std::nullopt, "mergekit"));
  EXPECT_NE(as_mergekit, head(recipe_of("sluice: {arithmetic: exact}\n", ""), std::nullopt, "mergekit"));
}

TEST_F(RecipeCheckpointTest, AStoredCopyOfATiedHeadIsLeftOut) {
  Llama("base", {.tied = true});
  auto tensors = tests::TinyLlamaTensors({.update_seed = 2, .tied = true});
  tests::TestTensor head = tensors[0];
  head.name = "lm_head.weight";
  tensors.push_back(head);
  Llama("copy", {.update_seed = 2, .tied = true});
  tests::WriteSafetensors(dir_ / "copy/model.safetensors", tensors);
  const std::string models =
      "models: [{model: base, parameters: {weight: 1}}, {model: copy, parameters: {weight: 1}}]\n";
  const auto of_copy = Good("merge_method: linear\nbase_model: copy\n" + models);
  ASSERT_NE(of_copy, nullptr);
  EXPECT_EQ(of_copy->tensors().Find("lm_head.weight"), std::nullopt);
  EXPECT_THAT(Messages(*of_copy, Problem::Severity::kNote), ElementsAre(HasSubstr("the copy is left out")));
  EXPECT_NE(Good("merge_method: linear\nbase_model: base\n" + models), nullptr);
}

TEST_F(RecipeCheckpointTest, OtherTensorsAreCarriedOrToldOf) {
  const auto with = [&](const std::string& name, uint64_t update_seed, std::vector<tests::TestTensor> more) {
    Llama(name, {.update_seed = update_seed});
    auto tensors = tests::TinyLlamaTensors({.update_seed = update_seed});
    tensors.insert(tensors.end(), more.begin(), more.end());
    tests::WriteSafetensors(dir_ / name + "/model.safetensors", tensors);
  };
  const std::vector<uint8_t> ids = {1, 0, 0, 0, 0, 0, 0, 0};
  with("base", 0,
       {{"model.position_ids", "I64", {1}, ids},
        tests::FloatTensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, {1, 2})});
  with("one", 2, {tests::FloatTensor("model.extra", "F32", {2}, {1, 2})});
  const auto recipe = Good(
      "merge_method: ties\nbase_model: base\nmodels: [{model: one, parameters: {weight: 1, density: 0.5}}]\n"
      "dtype: float16\n");
  ASSERT_NE(recipe, nullptr);
  EXPECT_THAT(Messages(*recipe, Problem::Severity::kWarning),
              testing::Contains("tensors of 'one' that 'base' lacks are left out: model.extra"));
  EXPECT_EQ(Tensor(*recipe, "model.position_ids"), ids);
  const auto buffer = recipe->tensors().Find("model.layers.0.self_attn.rotary_emb.inv_freq");
  ASSERT_TRUE(buffer);
  EXPECT_EQ(recipe->tensors()[*buffer].encoding, quant::F32());
  EXPECT_EQ(recipe->tensors()[*recipe->tensors().Find("lm_head.weight")].encoding, quant::F16());
}

// GPTQ's integers would be carried from one model and its scales averaged with another's.
TEST_F(RecipeCheckpointTest, GptqParentsAreRefused) {
  const auto config = [](const tests::TinyLlama& options) {
    std::string text = tests::TinyLlamaConfig(options);
    return text.insert(text.find('{') + 1, R"("quantization_config": {"quant_method": "gptq", "bits": 4},)");
  };
  for (const uint64_t update : {2, 3}) {
    const tests::TinyLlama options = {.update_seed = update};
    const std::string folder = Llama(fmt::format("q{}", update), options);
    auto tensors = tests::TinyLlamaTensors(options);
    tensors.push_back({"model.layers.0.mlp.up_proj.qweight", "I32", {2, 2}, std::vector<uint8_t>(16)});
    tests::WriteSafetensors(folder + "/model.safetensors", tensors);
    tests::WriteText(folder + "/config.json", config(options));
    tests::WriteText(Llama(fmt::format("stale{}", update), options) + "/config.json", config(options));
  }
  const auto of = [](const char* name) {
    return fmt::format(
        "merge_method: linear\nmodels: [{{model: {0}2, parameters: {{weight: 1}}}}, {{model: {0}3, parameters: "
        "{{weight: 1}}}}]\n",
        name);
  };
  const std::vector<std::string> errors = ErrorsOf(of("q"));
  EXPECT_THAT(errors, ElementsAre(HasSubstr("'q2' is quantised in a form that is not decoded yet "
                                            "(model.layers.0.mlp.up_proj.qweight is I32"),
                                  HasSubstr("'q3' is quantised")));
  EXPECT_NE(Good(of("stale")), nullptr);  // plain weights, and a config that training left so
}

TEST_F(RecipeCheckpointTest, WhatNothingDecodesIsRefused) {
  const auto file = [&](const std::string& name, const std::string& dtype, size_t bytes) {
    tests::WriteSafetensors(dir_ / name, {{"w", dtype, {4}, std::vector<uint8_t>(bytes)}});
  };
  file("a.safetensors", "F32", 16);
  file("b.safetensors", "F64", 32);
  const auto text = [](const std::string& first, const std::string& second) {
    return "merge_method: linear\nmodels: [{model: " + first + ", parameters: {weight: 1}}, {model: " + second +
           ", parameters: {weight: 1}}]\n";
  };
  EXPECT_THAT(ErrorsOf(text("a.safetensors", "b.safetensors")),
              ElementsAre("r.yml:2:67: 'b.safetensors' stores tensors in a way that cannot be merged yet: w is F64"));
  EXPECT_THAT(ErrorsOf(text("b.safetensors", "a.safetensors")),
              ElementsAre("r.yml:2:18: 'b.safetensors' stores tensors in a way that cannot be merged yet: w is F64"));
  // Files alone are checkpoints without a config.
  file("c.safetensors", "F32", 16);
  const auto recipe = Good(text("a.safetensors", "c.safetensors"));
  ASSERT_NE(recipe, nullptr);
  EXPECT_EQ(recipe->config(), nullptr);
}

TEST_F(RecipeCheckpointTest, ModelsAreLookedForBesideTheRecipeThenHere) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  std::filesystem::create_directory(dir_ / "recipes");
  const std::string text = "merge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}]\n";
  const std::string path = dir_ / "recipes/r.yml";
  tests::WriteText(path, text);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  const auto here = OpenRecipe(*ReadRecipe(path), WithRecipes());
  EXPECT_TRUE(here.has_value()) << here.error().ToString();
  std::filesystem::create_directory_symlink(dir_ / "one", dir_ / "recipes/one");
  EXPECT_TRUE(OpenRecipe(*ReadRecipe(path), WithRecipes()).has_value()) << "the same in both places";
  std::filesystem::remove(dir_ / "recipes/one");
  std::filesystem::create_directory_symlink(dir_ / "base", dir_ / "recipes/one");
  const auto both = OpenRecipe(*ReadRecipe(path), WithRecipes());
  std::filesystem::current_path(before);
  ASSERT_FALSE(both);
  EXPECT_THAT(both.error().context, ElementsAre(HasSubstr("'one' exists twice, beside the recipe (")));
}

TEST_F(RecipeCheckpointTest, ARecipeIsAModelOfAnother) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  Llama("two", {.update_seed = 3});
  tests::WriteText(dir_ / "inner.yml",
                   "name: step\nmerge_method: dare_linear\nbase_model: base\n"
                   "models: [{model: one, parameters: {weight: 1, density: 0.5}}]\nparameters: {rescale: false}\n"
                   "dtype: bfloat16\n");
  const auto outer = [](const std::string& inner) {
    return "merge_method: linear\nmodels: [{model: " + inner + ", parameters: {weight: 1}}]\ndtype: bfloat16\n";
  };
  OpenOptions options = WithRecipes();
  options.seed = 5;  // of the outer recipe only
  const auto recipe = Good(outer("inner.yml"), options);
  ASSERT_NE(recipe, nullptr);
  EXPECT_EQ(recipe->seed(), 5u);
  const auto inner = *checkpoint::OpenCheckpoint(dir_ / "inner.yml", WithRecipes());
  EXPECT_EQ(inner->kind(), "recipe");
  EXPECT_EQ(Tensor(*recipe, "lm_head.weight"), Tensor(*inner, "lm_head.weight"));
  EXPECT_NE(Good(outer("'inner.yml#step'")), nullptr);
  EXPECT_THAT(ErrorsOf(outer("'inner.yml#other'")),
              ElementsAre(HasSubstr("inner.yml: no document is called 'other'; there is step")));
  tests::WriteText(dir_ / "inner.yml", outer("r.yml"));
  EXPECT_THAT(ErrorsOf(outer("inner.yml")),
              ElementsAre(HasSubstr("'r.yml' is this recipe, or one that it is a part of")));
}

TEST_F(RecipeCheckpointTest, AnswersOnlyToRecipes) {
  Llama("base.yml", {});
  EXPECT_FALSE(OpenRecipeReference(dir_ / "base", WithRecipes()).has_value());
  EXPECT_FALSE(OpenRecipeReference(dir_ / "base.yml", WithRecipes()).has_value()) << "a folder";
  const auto none = OpenRecipeReference(dir_ / "none.yaml", WithRecipes());
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->error().code, ErrorCode::kNotFound);
}

// Opening looks at headers alone; the read that fetches one may reach a few KiB past it.
TEST_F(RecipeCheckpointTest, OpensFromHeadersAlone) {
  Llama("base", {});
  Llama("one", {.update_seed = 2});
  std::vector<std::shared_ptr<io::RecordingSource>> sources;
  OpenOptions options = WithRecipes();
  options.open_source = [&](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
    SLUICE_ASSIGN(auto source, io::OpenFile(path));
    sources.push_back(std::make_shared<io::RecordingSource>(std::move(source)));
    return std::shared_ptr<const io::ByteSource>(sources.back());
  };
  const auto recipe = Good(
      "merge_method: ties\nbase_model: base\nmodels: [{model: one, parameters: {weight: 1, density: 0.5}}]\n", options);
  ASSERT_NE(recipe, nullptr);
  graph::Graph graph;
  for (size_t i = 0; i < recipe->tensors().size(); ++i) recipe->MakeNode(i, &graph);
  ASSERT_EQ(sources.size(), 2u);
  for (const auto& source : sources) {
    uint8_t header[8];
    ASSERT_TRUE(source->Read(0, header).has_value());
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, header, 8);
    ASSERT_GT(source->size_bytes(), 8 + header_bytes + 3 * 4096);
    for (const auto& [times, bytes] : source->TimesRead(8 + header_bytes + 4096, source->size_bytes())) {
      EXPECT_TRUE(times == 0 || bytes == 0) << bytes << " bytes of weights were read";
    }
  }
}

}  // namespace
}  // namespace sluice::merge
