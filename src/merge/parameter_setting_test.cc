#include "merge/parameter_setting.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sluice::merge {
namespace {

TEST(ParameterSetting, AGradientIsDrawnOverTheLayersOfItsSlice) {
  const ParameterSetting gradient({{std::nullopt, {0, 0.5, 1, 0.25}}});
  EXPECT_EQ(gradient.At("x", 0), 0);
  EXPECT_EQ(gradient.At("x", 1), 0.25);
  EXPECT_EQ(gradient.At("x", 0.5), 0.5 * 0.5 + 0.5 * 1);
  EXPECT_EQ(gradient.At("x", 1.0 / 3), 0.5);
  EXPECT_FALSE(gradient.is_constant());
  EXPECT_EQ(ParameterSetting(3).At("x", 0.7), 3);
  EXPECT_TRUE(ParameterSetting(3).is_constant());
}

TEST(ParameterSetting, TheFirstFilterThatMatchesWins) {
  const ParameterSetting setting({{"self_attn", {0.9, 0.1}}, {"mlp.down", {0.75}}, {"*", {0.5}}, {"norm", {7}}});
  EXPECT_EQ(setting.At("model.layers.0.self_attn.q_proj.weight", 0), 0.9);
  EXPECT_EQ(setting.At("model.layers.0.mlp.down_proj.weight", 1), 0.75);
  EXPECT_EQ(setting.At("model.norm.weight", 1), 0.5);
  const ParameterSetting some({{"mlp", {1}}});
  EXPECT_EQ(some.At("lm_head.weight", 0), std::nullopt);
  EXPECT_FALSE(some.is_constant());
}

TEST(ParameterSetting, KnowsWhatItMayBe) {
  const ParameterSetting setting({{"mlp", {2}}, {std::nullopt, {0, 1}}});
  EXPECT_TRUE(setting.Has(2));
  EXPECT_TRUE(setting.Has(1));
  EXPECT_FALSE(setting.Has(0.5));
}

TEST(SliceParameters, TheNearestScopeWinsAndAFilterThatDoesNotMatchFallsThrough) {
  const Method& method = *FindMethod("linear");  // weight of models, normalize of the recipe
  const size_t weight = method.Index("weight"), normalize = method.Index("normalize");
  ParameterSettings top(method.parameters.size()), slice = top, none, own = top;
  top[weight].emplace(0.6);
  slice[weight].emplace(std::vector<ParameterSetting::Case>{{"mlp", {0.2}}});
  slice[normalize].emplace(0);
  own[weight].emplace(std::vector<ParameterSetting::Case>{{"up_proj", {0.1}}});
  const SliceParameters parameters(&method, {&slice, &none, &top}, {&own, &none});
  std::string_view missing;
  const auto weight_of = [&](size_t source, std::string_view tensor) {
    return parameters.OfModel(source, tensor, 0, &missing)[weight];
  };
  EXPECT_EQ(weight_of(0, "mlp.up_proj"), 0.1);
  EXPECT_EQ(weight_of(1, "mlp.up_proj"), 0.2);
  EXPECT_EQ(weight_of(0, "mlp.down_proj"), 0.2);
  EXPECT_EQ(weight_of(0, "norm"), 0.6);
  EXPECT_EQ(parameters.OfRecipe("norm", 0, &missing)[normalize], 0);
  EXPECT_EQ(missing, "");
  EXPECT_FALSE(parameters.are_constant());

  const SliceParameters bare(&method, {&none}, {&own});
  EXPECT_TRUE(std::isnan(bare.OfModel(0, "norm", 0, &missing)[weight]));
  EXPECT_EQ(missing, "weight");
  EXPECT_EQ(bare.OfRecipe("norm", 0, &missing)[normalize], 1);
  const SliceParameters same(&method, {&top}, {&none});
  EXPECT_TRUE(same.are_constant());
}

}  // namespace
}  // namespace sluice::merge
