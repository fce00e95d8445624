#include "merge/recipe.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::merge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> ErrorsOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const Recipe recipe = ParseRecipe(text, "r.yml", overrides);
  if (!recipe.diagnostics.has_errors()) return {};
  return recipe.diagnostics.ToError().context;
}

std::vector<std::string> NotesOf(const Recipe& recipe) {
  std::vector<std::string> notes;
  for (const Diagnostic& diagnostic : recipe.diagnostics.all()) {
    if (diagnostic.severity == Diagnostic::Severity::kNote) notes.push_back(recipe.diagnostics.Line(diagnostic));
  }
  return notes;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

double Get(const Recipe& recipe, size_t model, std::string_view name) {
  return recipe.models[model].parameters[recipe.method->Index(name)].value_or(NAN);
}

// What the seed document published, as it stands, but for a Linux that has its paths.
TEST(Recipe, ReadsTheSeedsRecipe) {
  const Recipe recipe = ParseRecipe(ReadFile(SLUICE_SOURCE_DIR "/tests/data/seed_recipe.yml"), "seed_recipe.yml");
  EXPECT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  ASSERT_NE(recipe.method, nullptr);
  EXPECT_EQ(recipe.method->name, "dare_ties");
  EXPECT_EQ(recipe.dtype, quant::BF16());
  EXPECT_FALSE(recipe.out_dtype.valid());
  EXPECT_EQ(recipe.output(), quant::BF16());
  ASSERT_TRUE(recipe.base);
  EXPECT_EQ(recipe.base->reference, "/home/alpha/Storage/Models/Raw/chargoddard_Yi-34B-200K-Llama");
  ASSERT_EQ(recipe.models.size(), 8u);
  EXPECT_EQ(recipe.models[0].reference, recipe.base->reference);
  EXPECT_EQ(recipe.models[0].parameters[0], std::nullopt);
  const double weights[] = {0.14, 0.14, 0.14, 0.22, 0.14, 0.14, 0.08};
  const double densities[] = {0.62, 0.62, 0.52, 0.62, 0.52, 0.52, 0.08};
  for (size_t m = 0; m < 7; ++m) {
    EXPECT_EQ(Get(recipe, m + 1, "weight"), weights[m]) << m;
    EXPECT_EQ(Get(recipe, m + 1, "density"), densities[m]) << m;
  }
  EXPECT_EQ(recipe.models[3].reference, "/home/alpha//Storage/Models/Raw/bhenrym14_airoboros-3_1-yi-34b-200k");
  EXPECT_EQ(recipe.models[7].reference, "/home/alpha/Models/Raw/SUSTech_SUS-Chat-34B/");
  EXPECT_THAT(NotesOf(recipe), ElementsAre(HasSubstr("seed_recipe.yml:43:3: dare_ties does not use int8_mask")));
}

TEST(Recipe, TellsSixDifferentErrorsAtOnce) {
  EXPECT_THAT(ErrorsOf("merge_method: dare_tie\n"
                       "base_model: base\n"
                       "models:\n"
                       "  - model: a\n"
                       "    parameters: {weight: 0.5, densty: 0.5}\n"
                       "  - model: b\n"
                       "    parameters:\n"
                       "      weight: heavy\n"
                       "      density: 1.5\n"
                       "  - model: 12\n"
                       "dtyp: bfloat16\n"),
              ElementsAre("r.yml:1:15: unknown merge_method 'dare_tie': did you mean 'dare_ties'?",
                          "r.yml:5:31: unknown parameter 'densty': did you mean 'density'?",
                          "r.yml:8:15: weight wants a number, not 'heavy'", "r.yml:9:16: density 1.5 is outside 0 to 1",
                          "r.yml:10:12: a model is named by a path, not '12': put it in quotes",
                          "r.yml:11:1: unknown key 'dtyp' in a recipe: did you mean 'dtype'?"));
}

std::string WithModels(const std::string& rest) { return "models: [{model: a, parameters: {weight: 1}}]\n" + rest; }

std::string MethodNames() {
  std::string names;
  for (const Method* method : AllMethods()) names += (names.empty() ? "" : ", ") + std::string(method->name);
  return names;
}

TEST(Recipe, RefusesEachMistakeWithItsPlace) {
  struct Case {
    std::string text;
    std::vector<std::string> errors;
  };
  const Case cases[] = {
      {"", {"r.yml:1:1: the recipe is empty"}},
      {"# nothing\n", {"r.yml:1:1: the recipe is empty"}},
      {"- a\n", {"r.yml:1:1: a recipe is a mapping of keys, this is a list"}},
      {"just words", {"r.yml:1:1: a recipe is a mapping of keys, this is text"}},
      {"merge_method: linear\n", {"r.yml:1:1: no models: a recipe lists what it merges under 'models:'"}},
      {"merge_method: linear\nmodels: []\n", {"r.yml:2:9: models is an empty list"}},
      {"merge_method: linear\nmodels: a\n", {"r.yml:2:9: models wants a list, not 'a'"}},
      {"merge_method: linear\nmodels: [a]\n", {"r.yml:2:10: a model is written '- model: PATH', this is 'a'"}},
      {"merge_method: linear\nmodels: [{parameters: {weight: 1}}]\n",
       {"r.yml:2:10: an item of models without 'model:'"}},
      {"merge_method: linear\nmodels: [{model: }]\n", {"r.yml:2:10: an item of models without 'model:'"}},
      {"merge_method: linear\nmodels: [{model: \"\"}]\n", {"r.yml:2:18: a model is named by a path, not nothing"}},
      {"merge_method: linear\nmodels: [{model: a, weight: 1}]\n",
       {"r.yml:2:21: 'weight' belongs under 'parameters:', not directly in a model"}},
      {WithModels(""), {"r.yml:1:1: no merge_method: say which, linear for instance"}},
      {WithModels("merge_method: [linear]\n"), {"r.yml:2:15: merge_method wants the name of a method, not a list"}},
      {WithModels("merge_method: quux\n"),
       {"r.yml:2:15: unknown merge_method 'quux'; these are known: " + MethodNames()}},
      {WithModels("merge_method: ram\nparameters: {epsilon: 0.5}\n"),
       {"r.yml:2:15: the method ram is not supported yet; these are: " + MethodNames()}},
      {WithModels("merge_method: linear\ndensity: 0.5\n"),
       {"r.yml:3:1: 'density' belongs under 'parameters:', not directly in a recipe"}},
      {WithModels("merge_method: linear\ndtype: bf16\n"),
       {"r.yml:3:8: dtype is 'bf16'; a recipe takes bfloat16, float16, float32: did you mean 'bfloat16'?"}},
      {WithModels("merge_method: linear\nout_dtype: 16\n"),
       {"r.yml:3:12: out_dtype is '16'; a recipe takes bfloat16, float16, float32"}},
      {WithModels("merge_method: linear\nname: 5\n"), {"r.yml:3:7: name wants text, not '5': put it in quotes"}},
      {WithModels("merge_method: linear\ntokenizer_source: union\n"),
       {"r.yml:3:19: tokenizer_source 'union' is not supported yet; 'base' is, and what is done without it"}},
      {WithModels("merge_method: linear\ntokenizer: {source: union}\n"),
       {"r.yml:3:1: tokenizer rules are not supported yet; without them the base's tokenizer goes along"}},
      {WithModels("merge_method: linear\ntokenizer: {source: union}\ntokenizer_source: base\n"),
       {"r.yml:3:1: tokenizer and tokenizer_source are both given; a recipe takes one"}},
      {WithModels("merge_method: linear\nchat_template: auto\n"),
       {"r.yml:3:1: chat_template is not supported yet; without it the base's template goes along"}},
      {"merge_method: linear\nslices: []\n", {"r.yml:2:1: the slices form is not supported yet; the models form is"}},
      {WithModels("merge_method: linear\nmodules: {}\n"),
       {"r.yml:3:1: the modules form is not supported yet; the models form is",
        "r.yml:3:1: models and modules are both given; a recipe has one of models, slices and modules"}},
      {WithModels("merge_method: linear\nsluice: {sed: 5}\n"),
       {"r.yml:3:10: unknown key 'sed' in sluice: did you mean 'seed'?"}},
      {WithModels("merge_method: linear\nsluice: {seed: -1, arithmetic: fast}\n"),
       {"r.yml:3:16: seed wants a whole number from 0 to 2^64 - 1, not '-1'",
        "r.yml:3:32: arithmetic is exact or mergekit, not 'fast'"}},
      {WithModels("merge_method: linear\nsluice: 5\n"),
       {"r.yml:3:9: sluice wants a mapping of seed and arithmetic, not '5'"}},
      {WithModels("merge_method: linear\nparameters: 5\n"),
       {"r.yml:3:13: parameters wants a mapping of names and values, not '5'"}},
      {WithModels("merge_method: linear\nparameters: {density: 0.5}\n"),
       {"r.yml:3:14: 'density' is no parameter of linear (it is one of breadcrumbs, breadcrumbs_ties, dare_linear, "
        "dare_ties, della, della_linear, task_arithmetic, ties)"}},
      {WithModels("merge_method: linear\nparameters: {entropy: 0.5}\n"),
       {"r.yml:3:14: unknown parameter 'entropy' of linear; it has weight, normalize"}},
      {WithModels("merge_method: linear\nparameters: {normalize: sometimes}\n"),
       {"r.yml:3:25: normalize wants true or false, not 'sometimes'"}},
      {WithModels("merge_method: linear\nparameters: {normalize: 0.5}\n"),
       {"r.yml:3:25: normalize wants true or false, not '0.5'"}},
      {WithModels("merge_method: dare_ties\nparameters: {rescale: weight}\n"),
       {"r.yml:3:23: rescale wants true, false or density, not 'weight'"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: -0.1}\n"),
       {"r.yml:3:23: density -0.1 is outside 0 to 1"}},
      {WithModels("merge_method: dare_ties\nparameters: {lambda: .inf}\n"),
       {"r.yml:3:22: lambda wants a finite number, not '.inf'"}},
      {WithModels("merge_method: dare_ties\nparameters: {lambda: 1.0e+40}\n"),
       {"r.yml:3:22: lambda 1.0e+40 is too large for f32"}},
      {WithModels("merge_method: dare_ties\nparameters: {lambda: }\n"),
       {"r.yml:3:22: lambda has no value; it wants a number"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: [0.1, 0.9]}\n"),
       {"r.yml:3:23: a gradient over the layers for density is not supported yet; give one value"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: [{filter: mlp, value: 0.9}]}\n"),
       {"r.yml:3:23: a list of filters for density is not supported yet; give one value"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: {filter: mlp, value: 0.9}}\n"),
       {"r.yml:3:23: a filter for density is not supported yet; give one value"}},
      {"merge_method: ties\nmodels: [{model: a, parameters: {normalize: true}}]\n",
       {"r.yml:2:34: 'normalize' is of the whole recipe: write it under 'parameters:' at the top level"}},
      {"merge_method: linear\nmodels: [{model: {model: {path: a, revision: main}, lora: {path: b, revision: c}}}]\n",
       {"r.yml:2:36: a model's revision is not supported yet", "r.yml:2:69: a model's revision is not supported yet"}},
      {"merge_method: linear\nmodels: [{model: {model: a, lora: 3}}, {model: {model: a, lora: {}}}]\n",
       {"r.yml:2:35: lora names an adapter by its path", "r.yml:2:65: lora names an adapter by its path"}},
      {"merge_method: linear\nmodels: [{model: {modle: a}}]\n",
       {"r.yml:2:18: a model without a path",
        "r.yml:2:19: unknown key 'modle' in a model's name: did you mean 'model'?"}},
      {WithModels("merge_method: linear\n---\nmerge_method: ties\n"),
       {"r.yml:3:1: a second document begins here; a recipe of several documents is not supported yet"}},
      {WithModels("merge_method: linear\nmerge_method: ties\n"),
       {"r.yml:3:1: 'merge_method' is written twice: first on line 2, column 1"}},
  };
  for (const Case& c : cases) EXPECT_EQ(ErrorsOf(c.text), c.errors) << c.text;
  EXPECT_THAT(ErrorsOf("a: [\n"), ElementsAre(HasSubstr("r.yml:2:1: not YAML: ")));
  EXPECT_THAT(ErrorsOf(std::string(kMaxRecipeBytes + 1, ' ')), ElementsAre(HasSubstr("not a recipe")));
}

TEST(Recipe, CastsAsMergekitDoes) {
  const Recipe recipe = ParseRecipe(
      "merge_method: dare_ties\n"
      "base_model: {model: {path: base}}\n"
      "models:\n"
      "  - {model: a, parameters: {weight: \"0.5\", density: yes}}\n"
      "  - {model: {model: b}, parameters: {weight: 1e-1, density: '1_0e-1'}}\n"
      "  - {model: c, parameters: {weight: !!float 3}}\n"
      "parameters: {normalize: no, rescale: density, lambda: ' +2 ', weight: 010}\n"
      "dtype: torch.bfloat16\nout_dtype: float32\nname: final\ntokenizer_source: base\nchat_template:\n"
      "sluice: {seed: 18446744073709551615, arithmetic: exact}\n",
      "r.yml");
  ASSERT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  EXPECT_EQ(Get(recipe, 0, "weight"), 0.5);
  EXPECT_EQ(Get(recipe, 0, "density"), 1);
  EXPECT_EQ(Get(recipe, 1, "weight"), 0.1);
  EXPECT_EQ(Get(recipe, 1, "density"), 1);
  EXPECT_EQ(recipe.models[1].reference, "b");
  EXPECT_EQ(Get(recipe, 2, "weight"), 3);
  const auto top = [&](std::string_view name) { return recipe.parameters[recipe.method->Index(name)]; };
  EXPECT_EQ(top("normalize"), 0);
  EXPECT_EQ(top("rescale"), kDensityWord);
  EXPECT_EQ(top("lambda"), 2);
  EXPECT_EQ(top("weight"), 8);
  EXPECT_EQ(top("int8_mask"), std::nullopt);
  EXPECT_EQ(recipe.base->reference, "base");
  EXPECT_EQ(recipe.dtype, quant::BF16());
  EXPECT_EQ(recipe.output(), quant::F32());
  EXPECT_EQ(recipe.name, "final");
  EXPECT_EQ(recipe.seed, 18446744073709551615u);
  EXPECT_EQ(recipe.arithmetic, "exact");
}

TEST(Recipe, TakesParametersThatAMethodDoesNotUseWithANote) {
  const Recipe recipe = ParseRecipe(
      "merge_method: task_arithmetic\nbase_model: b\n"
      "models:\n"
      "  - {model: a, parameters: {weight: 1, density: 0.5}}\n"
      "  - {model: c, parameters: {weight: 1, density: 0.7}}\n"
      "parameters: {rescale: true, int8_mask: true, normalize: true, lambda: 1}\n",
      "r.yml");
  EXPECT_FALSE(recipe.diagnostics.has_errors());
  EXPECT_THAT(NotesOf(recipe),
              testing::UnorderedElementsAre(HasSubstr("r.yml:4:40: task_arithmetic does not use density"),
                                            HasSubstr("r.yml:6:14: task_arithmetic does not use rescale"),
                                            HasSubstr("r.yml:6:29: task_arithmetic does not use int8_mask")));
}

TEST(Recipe, AnchorsAndMergeKeysWork) {
  const Recipe recipe = ParseRecipe(
      "merge_method: ties\nbase_model: b\n"
      "models:\n"
      "  - {model: a, parameters: &p {weight: 1, density: 0.5}}\n"
      "  - {model: c, parameters: {<<: *p, density: 0.7}}\n",
      "r.yml");
  ASSERT_FALSE(recipe.diagnostics.has_errors());
  EXPECT_EQ(Get(recipe, 1, "weight"), 1);
  EXPECT_EQ(Get(recipe, 1, "density"), 0.7);
}

TEST(Recipe, OverridesWin) {
  const std::string text = WithModels("merge_method: linear\nparameters: {normalize: true}\n");
  const std::vector<std::string> overrides = {"parameters.normalize=false", "models.0.parameters.weight=2.5",
                                              "sluice.seed=7"};
  const Recipe recipe = ParseRecipe(text, "r.yml", overrides);
  ASSERT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  EXPECT_EQ(recipe.parameters[recipe.method->Index("normalize")], 0);
  EXPECT_EQ(Get(recipe, 0, "weight"), 2.5);
  EXPECT_EQ(recipe.seed, 7u);
  EXPECT_EQ(recipe.text, text);
  EXPECT_EQ(recipe.overrides, overrides);
  EXPECT_THAT(ErrorsOf(text, {"parameters.density"}),
              ElementsAre(HasSubstr("r.yml: --set parameters.density: want key=value")));
  EXPECT_THAT(ErrorsOf(text, {"models.3.model=x"}), ElementsAre(HasSubstr("'3' is not an item of a list of 1")));
  EXPECT_THAT(ErrorsOf(text, {"parameters.normalise=no"}), ElementsAre(HasSubstr("did you mean 'normalize'?")));
}

TEST(ReadRecipe, TellsAFolderAModelAndNothingApart) {
  tests::TempDir dir;
  EXPECT_EQ(ReadRecipe(dir / "none.yml").error().code, ErrorCode::kNotFound);
  const Error folder = ReadRecipe(dir.path()).error();
  EXPECT_EQ(folder.code, ErrorCode::kRecipe);
  EXPECT_THAT(folder.ToString(), HasSubstr("is a folder, not a recipe"));
  tests::WriteText(dir / "m.safetensors", "x");
  const Error model = ReadRecipe(dir / "m.safetensors").error();
  EXPECT_EQ(model.code, ErrorCode::kRecipe);
  EXPECT_THAT(model.ToString(), HasSubstr("is a model, not a recipe"));
  tests::WriteText(dir / "large.yml", std::string(kMaxRecipeBytes + 1, '#'));
  EXPECT_EQ(ReadRecipe(dir / "large.yml").error().code, ErrorCode::kRecipe);
  tests::WriteText(dir / "r.yml", WithModels("merge_method: linear\n"));
  EXPECT_FALSE(ReadRecipe(dir / "r.yml")->diagnostics.has_errors());
}

}  // namespace
}  // namespace sluice::merge
