// The ends of what slerp and its kin are defined for: nothing, the same, the opposite, NaN. (What they compute in
// between: method_test.cc.)
#include "merge/method.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "merge/testing/plain_formulas.h"

namespace sluice::merge {
namespace {

using tests::Floats;

const char* const kMethods[] = {"slerp", "nuslerp", "multislerp", "model_stock", "karcher"};

// `base`: where the method needs one, or takes it and it is not empty.
Floats Merged(const char* name, const Floats& base, const std::vector<Floats>& x, const tests::MethodSettings& s,
              std::vector<uint64_t> shape = {}) {
  const Method& method = *FindMethod(name);
  graph::Graph graph;
  std::vector<ParameterValues> values(x.size() + 1);
  for (size_t m = 0; m < values.size(); ++m) {
    for (const ParameterInfo& info : method.parameters) values[m].push_back(s.Value(info, m % s.weight.size()));
  }
  std::vector<ModelInput> models;
  for (size_t m = 0; m < x.size(); ++m) models.push_back({tests::AddFloats(&graph, x[m]), &values[m]});
  if (shape.empty()) shape = {x[0].size()};
  return tests::NodeRunner().RunF32(method.build({.graph = &graph,
                                                  .tensor_name = "t",
                                                  .shape = shape,
                                                  .base = base.empty() ? nullptr : tests::AddFloats(&graph, base),
                                                  .models = models,
                                                  .parameters = &values.back(),
                                                  .seed = 0}));
}

// Two vectors: the base and one model for slerp, two models for the others.
Floats MergedTwo(const std::string& name, const Floats& a, const Floats& b, const tests::MethodSettings& s) {
  if (name == "slerp") return Merged("slerp", a, {b}, s);
  if (name == "model_stock") return Merged("model_stock", Floats(a.size()), {a, b}, s);
  return Merged(name.c_str(), {}, {a, b}, s);
}

const tests::MethodSettings kHalf = {.weight = {0.5, 0.5}, .density = {1, 1}, .other = {{"t", 0.5}}};

TEST(Combination, OfNothingIsNothing) {
  for (const char* name : kMethods) EXPECT_EQ(MergedTwo(name, Floats(40), Floats(40), kHalf), Floats(40)) << name;
}

TEST(Combination, OfTheSameIsThat) {
  const Floats x = {1, -2, 0.5f, 3, 0, 1e-3f};
  for (const char* name : kMethods) {
    const Floats merged = MergedTwo(name, x, x, kHalf);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_FLOAT_EQ(merged[i], x[i]) << name;
  }
}

// Of two that point apart: mergekit's answers, but where it divides by zero.
TEST(Combination, OfOppositesIsWhatEachSays) {
  const Floats a = {3, 4}, b = {-6, -8};
  EXPECT_EQ(MergedTwo("slerp", a, b, kHalf), (Floats{-1.5f, -2}));    // |cos| > 0.9995: straight
  EXPECT_EQ(MergedTwo("nuslerp", a, b, kHalf), (Floats{-1.5f, -2}));  // sin = 0: straight
  // The directions cancel: weights alone.
  EXPECT_EQ(MergedTwo("multislerp", a, b, kHalf), (Floats{-1.5f, -2}));
  EXPECT_EQ(Merged("multislerp", {}, {a, b, {0, 0}}, {.weight = {0.25, 0.25, 0.5}, .density = {}}),
            (Floats{-0.75f, -1}));
  // Agreement of nothing: the base.
  EXPECT_EQ(MergedTwo("model_stock", a, b, kHalf), (Floats{0, 0}));
  // The first's direction (mergekit's start where the sum is nothing), the mean of the lengths 5 and 10.
  EXPECT_EQ(MergedTwo("karcher", a, b, kHalf), (Floats{4.5f, 6}));
}

TEST(Combination, ANaNIsInAllOfTheTensor) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : kMethods) {
    for (const float bad : {nan, std::numeric_limits<float>::infinity()}) {
      for (const float value : MergedTwo(name, {1, 2, 3}, {1, bad, 2}, kHalf)) EXPECT_TRUE(std::isnan(value)) << name;
    }
  }
}

TEST(Combination, ARowThatIsNothingLeavesTheOthers) {
  const Floats base(4), a = {1, 0, 0, 0}, b = {0, 1, 0, 0};
  const tests::MethodSettings by_rows = {
      .weight = {0.5, 0.5}, .density = {}, .other = {{"nuslerp_flatten", 0}, {"filter_wise", 1}}};
  const float half = std::sqrt(0.5f);
  const Floats merged = Merged("nuslerp", {}, {a, b}, by_rows, {2, 2});
  EXPECT_FLOAT_EQ(merged[0], half);
  EXPECT_FLOAT_EQ(merged[1], half);
  EXPECT_EQ(merged[2], 0);
  EXPECT_EQ(merged[3], 0);
  // Rows at right angles: c = 0, the base.
  EXPECT_EQ(Merged("model_stock", base, {a, b}, by_rows, {2, 2}), base);
  EXPECT_EQ(Merged("model_stock", base, {a, a}, by_rows, {2, 2}), a);
}

TEST(Combination, OneModelOfMultislerpStaysWhatItIs) {
  const Floats x = {1, 2, 3};
  EXPECT_EQ(Merged("multislerp", {5, 5, 5}, {x}, kHalf), x);
  EXPECT_EQ(Merged("karcher", {}, {x}, kHalf), x);
}

TEST(Combination, WeightsOfNothingAreRefused) {
  const Method& method = *FindMethod("multislerp");
  const std::vector<ParameterValues> models = {{0.5, 1, 1e-8}, {-0.5, 1, 1e-8}};
  EXPECT_NE(method.check_models(models, models[0]), "");
  EXPECT_EQ(method.check_models(models, {0, 0, 1e-8}), "");
}

TEST(Methods, DellaRefusesProbabilitiesOutsideZeroToOne) {
  const Method& method = *FindMethod("della");
  const auto problem = [&](double density, double epsilon) {
    const std::vector<ParameterValues> models = {{1, density, 1, 1, 1, 0, epsilon}};
    return method.check_models(models, models[0]);
  };
  EXPECT_EQ(problem(0.5, 0.15), "");
  EXPECT_EQ(problem(0.9, 0.15),
            "density 0.9 with epsilon 0.15 gives probabilities from 0.75 to 1.05: they must lie between 0 and 1, so "
            "take a smaller epsilon (below 0.1)");
  EXPECT_NE(problem(0.1, 0.15), "");
  EXPECT_EQ(problem(1, 0.15), "");
  EXPECT_EQ(problem(0, 0.15), "");
}

}  // namespace
}  // namespace sluice::merge
