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

const std::vector<RecipeModel>& ModelsOf(const Recipe& recipe) { return recipe.slices.at(0).sources; }

double Get(const Recipe& recipe, size_t model, std::string_view name) {
  return ModelsOf(recipe)[model].parameters[recipe.method->Index(name)].value().At("x", 0).value_or(NAN);
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
  ASSERT_EQ(ModelsOf(recipe).size(), 8u);
  EXPECT_EQ(ModelsOf(recipe)[0].reference, recipe.base->reference);
  EXPECT_TRUE(ModelsOf(recipe)[0].parameters.empty());
  const double weights[] = {0.14, 0.14, 0.14, 0.22, 0.14, 0.14, 0.08};
  const double densities[] = {0.62, 0.62, 0.52, 0.62, 0.52, 0.52, 0.08};
  for (size_t m = 0; m < 7; ++m) {
    EXPECT_EQ(Get(recipe, m + 1, "weight"), weights[m]) << m;
    EXPECT_EQ(Get(recipe, m + 1, "density"), densities[m]) << m;
  }
  EXPECT_EQ(ModelsOf(recipe)[3].reference, "/home/alpha//Storage/Models/Raw/bhenrym14_airoboros-3_1-yi-34b-200k");
  EXPECT_EQ(ModelsOf(recipe)[7].reference, "/home/alpha/Models/Raw/SUSTech_SUS-Chat-34B/");
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
      {WithModels("merge_method: linear\ntokenizer_source: 5\n"),
       {"r.yml:3:19: a model is named by a path, not '5': put it in quotes"}},
      {WithModels("merge_method: linear\ntokenizer: union\n"),
       {"r.yml:3:12: tokenizer wants a mapping of source, tokens and pad_to_multiple_of, not 'union'"}},
      {WithModels("merge_method: linear\ntokenizer: {sorce: union, pad_to_multiple_of: 0, tokens: [a]}\n"),
       {"r.yml:3:13: unknown key 'sorce' in tokenizer: did you mean 'source'?",
        "r.yml:3:47: pad_to_multiple_of wants a whole number from 1 to 1048576, not '0'",
        "r.yml:3:58: tokens wants a mapping of tokens and where they come from, not a list"}},
      {WithModels("merge_method: linear\ntokenizer: {tokens: {x: a, y: {force: 1}, z: {force: true}}}\n"),
       {"r.yml:3:25: a token wants {source: MODEL}, not 'a'", "r.yml:3:39: force wants true or false, not '1'",
        "r.yml:3:46: a token that is forced needs a source that it is forced to"}},
      {WithModels("merge_method: linear\ntokenizer: {tokens: {x: {source: {kind: model_token, model: a}}, y: {source: "
                  "{kind: one, model: a, token: b}}, z: {source: {kind: model_token, token_id: -1}}}}\n"),
       {"r.yml:3:34: a model_token has one of token and token_id",
        "r.yml:3:85: the kind of a token's source is model_token or zero, not 'one'",
        "r.yml:3:124: a model_token without a model", "r.yml:3:154: token_id wants a whole number, not '-1'"}},
      {WithModels("merge_method: linear\ntokenizer: {tokens: {x: {source: {kind: zero, model: a}}}}\n"),
       {"r.yml:3:47: unknown key 'model' in a token's source of kind zero"}},
      {WithModels("merge_method: linear\ntokenizer: {source: union}\ntokenizer_source: base\n"),
       {"r.yml:3:1: tokenizer and tokenizer_source are both given; a recipe takes one"}},
      {WithModels("merge_method: linear\nchat_template: gpt\n"),
       {"r.yml:3:16: chat_template is auto, one of alpaca, chatml, exaone, llama3, mistral, or the text of a Jinja "
        "template, not 'gpt'"}},
      {"merge_method: linear\nslices: []\n", {"r.yml:2:9: slices is an empty list"}},
      {"merge_method: linear\nslices: [{sources: []}, {parameters: {weight: 1}}, {sorces: 1}]\n",
       {"r.yml:2:20: sources is an empty list", "r.yml:2:25: a slice without 'sources:'",
        "r.yml:2:52: a slice without 'sources:'",
        "r.yml:2:53: unknown key 'sorces' in a slice: did you mean 'sources'?"}},
      {"merge_method: linear\nslices: [{sources: [{model: a}, {model: b, layer_range: [3]}, {model: c, layer_range: "
       "[2, 2]},"
       " {model: d, layer_range: [-1, 2]}, {layer_range: [0, 1]}], residual_weight: 2}]\n",
       {"r.yml:2:21: a source without 'layer_range:', [0, 8] for the first eight layers",
        "r.yml:2:57: layer_range wants two whole numbers, the first layer and the one after the last: [0, 8]",
        "r.yml:2:87: layer_range [2, 2] has no layers: the second number is the layer after the last",
        "r.yml:2:120: layer_range wants two whole numbers, the first layer and the one after the last: [0, 8]",
        "r.yml:2:130: an item of sources without 'model:'",
        "r.yml:2:171: residual_weight does nothing, in mergekit neither: leave it out"}},
      {"merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, "
       "3]}]}]\n",
       {"r.yml:2:62: 'b' gives 3 layers to this slice, 'a' 2: the sources of a slice have as many layers each"}},
      {"merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1048577]}]}]\n",
       {"r.yml:2:45: layer_range [0, 1048577]: no model has more than 1048576 layers"}},
      {"merge_method: linear\nmodules: {a: {models: [{model: a}]}, b: {models: [{model: b}]}}\n",
       {"r.yml:2:38: models of several modules are not supported yet; this is a second one"}},
      {"merge_method: linear\nmodules: {a: {parameters: {weight: 1}}}\n",
       {"r.yml:2:14: a module without models or slices"}},
      {"merge_method: linear\nmodules: {a: {models: [{model: a}], slices: [{sources: []}]}}\n",
       {"r.yml:2:14: models and slices are both given; a module has one of them"}},
      {WithModels("merge_method: linear\nmodules: {}\n"),
       {"r.yml:3:1: models and modules are both given; a recipe has one of models, slices and modules"}},
      {"merge_method: linear\nmodules: {}\n",
       {"r.yml:2:10: modules wants a mapping of a module's name to what it is made of, not an empty one"}},
      {WithModels("merge_method: linear\nsluice: {sed: 5}\n"),
       {"r.yml:3:10: unknown key 'sed' in sluice: did you mean 'seed'?"}},
      {WithModels("merge_method: linear\nsluice: {seed: -1, arithmetic: fast}\n"),
       {"r.yml:3:16: seed wants a whole number from 0 to 2^64 - 1, not '-1'",
        "r.yml:3:32: arithmetic is exact or mergekit, not 'fast'"}},
      {WithModels("merge_method: linear\nsluice: 5\n"),
       {"r.yml:3:9: sluice wants a mapping of seed, arithmetic and lora_merge_dtype, not '5'"}},
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
      {WithModels("merge_method: dare_ties\nparameters: {density: [0.1, 9]}\n"),
       {"r.yml:3:29: density 9 is outside 0 to 1"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: []}\n"),
       {"r.yml:3:23: density wants a number, or several over the layers, not an empty list"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: [[0.1]]}\n"),
       {"r.yml:3:24: density wants a number, not a list"}},
      {WithModels("merge_method: dare_ties\nparameters: {rescale: [0, 1]}\n"),
       {"r.yml:3:23: rescale wants true, false or density, not a gradient over the layers"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: [{filter: mlp, value: 0.9}, 0.5]}\n"),
       {"r.yml:3:51: density mixes filters and bare values: write the value for all other tensors as '- value: 0.5'"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: {filter: mlp}}\n"),
       {"r.yml:3:23: density wants a number, or {filter, value}, not a mapping without a value"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: {filtre: mlp, value: 0.5}}\n"),
       {"r.yml:3:24: unknown key 'filtre' beside a filter: did you mean 'filter'?"}},
      {WithModels("merge_method: dare_ties\nparameters: {density: {filter: [mlp], value: 0.5}}\n"),
       {"r.yml:3:32: a filter wants a part of a tensor's name, not a list"}},
      {"merge_method: ties\nmodels: [{model: a, parameters: {normalize: true}}]\n",
       {"r.yml:2:34: 'normalize' is of the whole recipe: write it under 'parameters:' at the top level"}},
      {"merge_method: linear\nmodels: [{model: {model: a, lora: 3}}, {model: {model: a, lora: {}}}]\n",
       {"r.yml:2:35: an adapter is named by a path, not '3': put it in quotes",
        "r.yml:2:65: an adapter without a path"}},
      {"merge_method: linear\nmodels: [{model: {modle: a}}]\n",
       {"r.yml:2:18: a model without a path",
        "r.yml:2:19: unknown key 'modle' in a model's name: did you mean 'model'?"}},
      {WithModels("merge_method: linear\n---\nmerge_method: ties\n"),
       {"r.yml:4:1: a second document without a name begins here: give all but one of them a name"}},
      {"name: a\n---\nname: a\n", {"r.yml:3:1: a second document is called 'a'"}},
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
  EXPECT_EQ(ModelsOf(recipe)[1].reference, "b");
  EXPECT_EQ(Get(recipe, 2, "weight"), 3);
  const auto top = [&](std::string_view name) -> std::optional<double> {
    const auto& setting = recipe.parameters[recipe.method->Index(name)];
    return setting ? setting->At("x", 0) : std::nullopt;
  };
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

TEST(Recipe, ReadsSlicesScopesFiltersAndGradients) {
  const Recipe recipe = ParseRecipe(
      "merge_method: linear\nbase_model: a\nmodules:\n  default:\n    parameters: {normalize: false}\n    slices:\n"
      "      - sources:\n"
      "          - {model: a, layer_range: [0, 4], parameters: {weight: [0.1, 0.9]}}\n"
      "          - {model: b, layer_range: [2, 6]}\n"
      "        base_model: b\n"
      "        parameters: {weight: [{filter: mlp, value: 2}, {value: 3}, {filter: '*', value: 4}]}\n"
      "parameters: {weight: 5}\n",
      "r.yml");
  ASSERT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  EXPECT_TRUE(recipe.has_layer_ranges);
  ASSERT_EQ(recipe.slices.size(), 1u);
  const RecipeSlice& slice = recipe.slices[0];
  ASSERT_EQ(slice.sources.size(), 2u);
  EXPECT_EQ(slice.base->reference, "b");
  EXPECT_EQ(slice.sources[1].layers->begin, 2u);
  EXPECT_EQ(slice.sources[1].layers->size(), 4u);
  const size_t weight = recipe.method->Index("weight");
  EXPECT_EQ(slice.sources[0].parameters[weight]->At("x", 1), 0.9);
  EXPECT_TRUE(slice.sources[1].parameters.empty());
  EXPECT_EQ(slice.parameters[weight]->At("mlp", 0), 2);
  EXPECT_EQ(slice.parameters[weight]->At("norm", 0), 3);
  EXPECT_EQ(recipe.module_parameters[recipe.method->Index("normalize")]->At("x", 0), 0);
  EXPECT_EQ(recipe.parameters[weight]->At("x", 0), 5);
  ASSERT_EQ(recipe.diagnostics.all().size(), 1u);
  EXPECT_THAT(recipe.diagnostics.all()[0].message, HasSubstr("no tensor's weight comes from here"));
}

TEST(Recipe, ChoosesADocument) {
  const std::string text = "name: one\n" + WithModels("merge_method: linear\n") + "---\n" +
                           WithModels("merge_method: ties\nbase_model: one\n") + "---\n---\nname: two\n" +
                           WithModels("merge_method: dare_ties\n");
  const Recipe last = ParseRecipe(text, "r.yml"), two = ParseRecipe(text, "r.yml", {}, "two");
  ASSERT_NE(last.method, nullptr);
  EXPECT_EQ(last.method->name, "ties");
  EXPECT_EQ(last.name, "");
  EXPECT_THAT(last.document_names, ElementsAre("one", "two"));
  ASSERT_NE(two.method, nullptr);
  EXPECT_EQ(two.method->name, "dare_ties");
  EXPECT_EQ(two.name, "two");
  const Recipe all_named = ParseRecipe(text.substr(0, text.find("---")) + text.substr(text.rfind("---")), "r.yml");
  EXPECT_EQ(all_named.name, "two");  // the last
  const Recipe none = ParseRecipe(text, "r.yml", {}, "three");
  EXPECT_THAT(none.diagnostics.ToError().context,
              ElementsAre("r.yml: no document is called 'three'; there are one, two"));
}

TEST(Recipe, ReferencesHaveRevisions) {
  const Recipe recipe = ParseRecipe(
      "merge_method: linear\n"
      "models: [{model: {model: {path: o/a, revision: main}, lora: {path: o/b, revision: c}}, parameters: {weight: "
      "1}}]\n",
      "r.yml");
  ASSERT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  EXPECT_EQ(ModelsOf(recipe)[0].reference, "o/a@main+o/b@c");
}

TEST(Recipe, OverridesWin) {
  const std::string text = WithModels("merge_method: linear\nparameters: {normalize: true}\n");
  const std::vector<std::string> overrides = {"parameters.normalize=false", "models.0.parameters.weight=2.5",
                                              "sluice.seed=7"};
  const Recipe recipe = ParseRecipe(text, "r.yml", overrides);
  ASSERT_FALSE(recipe.diagnostics.has_errors()) << recipe.diagnostics.ToError().context[0];
  EXPECT_EQ(recipe.parameters[recipe.method->Index("normalize")]->At("x", 0), 0);
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
