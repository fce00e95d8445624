// The contract that every method keeps, whatever it is: its metadata is complete, its result is that of a plain scalar
// formula (testing/plain_formulas.h), and neither the cuts nor the threads change a bit of it.
#include "merge/method.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "base/counter_rng.h"
#include "merge/testing/plain_formulas.h"

namespace sluice::merge {
namespace {

using tests::Floats;
using Settings = tests::MethodSettings;

// ---- running a method --------------------------------------------------------------------------------------------

float Value(uint64_t i, uint32_t seed) {
  const auto words = Philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {seed, 77});
  const float u = static_cast<float>(static_cast<int32_t>(words[0])) * 0x1p-31f;
  return words[1] % 16 == 0 ? 0.0f : u * 0.05f;  // some zeros, of both kinds of product
}

struct Inputs {
  Floats base;
  std::vector<Floats> x;
};

// For a method, as many models as it takes.
Inputs MakeInputs(const Method& method, size_t n, size_t models) {
  models = std::max<size_t>(models, method.min_models);
  if (method.max_models > 0) models = std::min<size_t>(models, method.max_models);
  Inputs inputs;
  inputs.base.resize(n);
  for (size_t i = 0; i < n; ++i) inputs.base[i] = Value(i, 1);
  for (size_t m = 0; m < models; ++m) {
    Floats x(n);
    for (size_t i = 0; i < n; ++i) {
      // Updates that are often equal, so that there are ties, and often nothing.
      x[i] = inputs.base[i] + std::round(Value(i, 2 + static_cast<uint32_t>(m)) * 400) / 4096;
    }
    inputs.x.push_back(std::move(x));
  }
  return inputs;
}

ParameterValues Values(const Method& method, const Settings& s, size_t model) {
  ParameterValues values;
  for (const ParameterInfo& info : method.parameters) values.push_back(s.Value(info, model));
  return values;
}

bool UsesBase(const Method& method, const Settings& s) {
  return method.needs_base || (method.takes_base && s.with_base);
}

Floats Merged(const Method& method, const Inputs& inputs, const Settings& s, const tests::RunOptions& options = {}) {
  graph::Graph graph;
  const graph::Node* base = UsesBase(method, s) ? tests::AddFloats(&graph, inputs.base) : nullptr;
  std::vector<ParameterValues> values;
  std::vector<ModelInput> models;
  for (size_t m = 0; m < inputs.x.size(); ++m) values.push_back(Values(method, s, m));
  for (size_t m = 0; m < inputs.x.size(); ++m) models.push_back({tests::AddFloats(&graph, inputs.x[m]), &values[m]});
  const ParameterValues recipe = Values(method, s, 0);
  std::vector<uint64_t> shape = {inputs.base.size()};
  if (s.columns > 0) shape = {inputs.base.size() / s.columns, s.columns};
  const graph::Node* node = method.build({.graph = &graph,
                                          .tensor_name = s.tensor,
                                          .shape = shape,
                                          .base = base,
                                          .models = models,
                                          .parameters = &recipe,
                                          .seed = s.seed});
  EXPECT_EQ(node->encoding(), quant::F32());
  EXPECT_EQ(node->num_elements(), inputs.base.size());
  return tests::NodeRunner(options).RunF32(node);
}

void ExpectSameBits(const Floats& a, const Floats& b) {
  ASSERT_EQ(a.size(), b.size());
  size_t different = 0, first = 0;
  for (size_t i = a.size(); i-- > 0;) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      ++different;
      first = i;
    }
  }
  if (different > 0)
    ADD_FAILURE() << different << " of " << a.size() << " differ, first " << first << ": " << a[first] << " and "
                  << b[first];
}

// The last bit, or what a sum in another order may change: one rounding of the result (2^-23 of it, a unit in the last
// place), and 1e-12 of a value (all are under 0.1), for a result may be small beside what it is made of.
void ExpectFormula(const Method& method, const Floats& merged, const Floats& formula) {
  if (tests::IsExact(method)) return ExpectSameBits(merged, formula);
  ASSERT_EQ(merged.size(), formula.size());
  size_t different = 0;
  for (size_t i = 0; i < merged.size(); ++i) {
    const double a = merged[i], b = formula[i];
    if (std::isnan(a) && std::isnan(b)) continue;
    if (!(std::fabs(a - b) <= 0x1p-23 * std::fabs(b) + 1e-13) && ++different < 4)
      ADD_FAILURE() << "element " << i << ": " << a << " and " << b;
  }
  EXPECT_EQ(different, 0u);
}

// A method's own ways.
std::vector<std::map<std::string, double>> Variants(const Method& method) {
  if (method.name == "slerp") return {{{"t", 0.3}}, {{"t", 0}}, {{"t", 1}}, {{"t", 1.2}}};
  if (method.name == "nuslerp")
    return {{}, {{"nuslerp_flatten", 0}}, {{"nuslerp_flatten", 0}, {"nuslerp_row_wise", 1}}};
  if (method.name == "multislerp") return {{}, {{"normalize_weights", 0}}};
  if (method.name == "model_stock") return {{}, {{"filter_wise", 1}}};
  if (method.name == "karcher") return {{}, {{"max_iter", 1}}};
  if (method.name == "sce") return {{}, {{"select_topk", 0.3}}};
  if (method.Find("gamma")) return {{{"gamma", 0.1}}, {}};
  if (method.Find("epsilon")) return {{{"epsilon", 0.25}}, {{"epsilon", 0.05}}};
  return {{}};
}

std::vector<Settings> AllSettings(const Method& method) {
  std::vector<Settings> all;
  const bool sparse = method.Find("density") != nullptr && method.Find("density")->used;
  const bool scales = method.Find("rescale") != nullptr && sparse;
  // Of della, within epsilon of neither 0 nor 1.
  const bool by_rank = method.Find("epsilon") != nullptr;
  const std::vector<double> sparse_densities =
      by_rank ? std::vector<double>{0.62, 0.3, 0.4} : std::vector<double>{0.62, 0.08, 0.3};
  const std::vector<double> some_dense = by_rank ? std::vector<double>{0.5, 1, 0.7} : std::vector<double>{0.5, 1, 0.99};
  for (const auto& weight : std::vector<std::vector<double>>{{0.5, 0.3, 0.4}, {1, -1, 0.25}, {0.7, 0, -0.2}}) {
    for (const auto& density : std::vector<std::vector<double>>{{1, 1, 1}, sparse_densities, some_dense}) {
      if (!sparse && density[0] != 1) continue;
      for (const bool normalize : {false, true}) {
        if (normalize && !method.Find("normalize")) continue;
        for (const double rescale : {0.0, 1.0, kDensityWord}) {
          if (!scales && rescale != 0) continue;
          for (const double lambda : {1.0, 0.7}) {
            if (!method.Find("lambda") && lambda != 1) continue;
            for (const auto& other : Variants(method)) {
              for (const bool with_base : {true, false}) {
                if (!method.takes_base && !with_base) continue;
                all.push_back({.weight = weight,
                               .density = density,
                               .normalize = normalize,
                               .rescale = rescale,
                               .lambda = lambda,
                               .other = other,
                               .columns = 38,
                               .with_base = with_base});
              }
            }
          }
        }
      }
    }
  }
  return all;
}

class EveryMethod : public testing::TestWithParam<const Method*> {};
INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod, testing::ValuesIn(AllMethods().begin(), AllMethods().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(EveryMethod, HasCompleteMetadata) {
  const Method& method = *GetParam();
  EXPECT_EQ(FindMethod(method.name), &method);
  EXPECT_TRUE(method.summary.ends_with(".")) << method.summary;
  EXPECT_EQ(method.summary.find('\n'), std::string_view::npos);
  EXPECT_NE(method.formula.find("out = "), std::string_view::npos);
  EXPECT_THAT(method.paper, testing::AnyOf(testing::HasSubstr("arXiv"), testing::HasSubstr("mergekit")));
  EXPECT_FALSE(method.differences.empty());
  EXPECT_GE(method.min_models, 1u);
  EXPECT_TRUE(method.max_models == 0 || method.max_models >= method.min_models);
  EXPECT_GE(method.bytes_per_element, 4u);
  EXPECT_NE(method.build, nullptr);
  EXPECT_THAT(UnsupportedMethods(), testing::Not(testing::Contains(method.name)));
  std::set<std::string_view> names;
  for (const ParameterInfo& info : method.parameters) {
    SCOPED_TRACE(info.name);
    EXPECT_TRUE(names.insert(info.name).second);
    EXPECT_FALSE(info.help.empty());
    EXPECT_LT(info.min, info.max);
    if (info.type == ParameterType::kNumber && info.default_value) {
      EXPECT_GE(*info.default_value, info.min);
      EXPECT_LE(*info.default_value, info.max);
    } else if (info.default_value) {
      EXPECT_TRUE(*info.default_value == 0 || *info.default_value == 1);
    }
    EXPECT_TRUE(info.used || info.default_value) << "a parameter that is not used cannot be required";
  }
  const std::string page = MethodPage(method);
  for (const ParameterInfo& info : method.parameters) EXPECT_THAT(page, testing::HasSubstr(info.name));
}

TEST_P(EveryMethod, HasItsPage) {
  const Method& method = *GetParam();
  std::ifstream file(SLUICE_SOURCE_DIR "/docs/methods/" + std::string(method.name) + ".md");
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_EQ(page.str(), MethodPage(method)) << "write the pages again: method_pages docs/methods";
}

TEST_P(EveryMethod, ComputesThePlainFormula) {
  const Method& method = *GetParam();
  const Inputs inputs = MakeInputs(method, 1216, 3);  // 32 rows of 38
  for (const Settings& s : AllSettings(method)) {
    SCOPED_TRACE(testing::Message() << "weights " << s.weight[0] << " densities " << s.density[0] << " normalize "
                                    << s.normalize << " rescale " << s.rescale << " lambda " << s.lambda);
    ExpectFormula(method, Merged(method, inputs, s), tests::PlainFormula(method, inputs.base, inputs.x, s));
  }
}

TEST_P(EveryMethod, ComputesItAtAnySizeAndAnyNumberOfModels) {
  const Method& method = *GetParam();
  for (const size_t models : {1, 2, 8}) {
    for (const size_t n : {0, 1, 31, 32, 33, 8192, 8193, 70000}) {
      Settings s;
      for (size_t m = 0; m < std::max<size_t>(models, method.min_models); ++m) {
        s.weight.push_back(0.3 + 0.1 * static_cast<double>(m));
        s.density.push_back(n < 10 ? 1 : 0.9 - 0.1 * static_cast<double>(m));
      }
      s.rescale = method.Find("rescale") ? 1 : 0;
      s.other = Variants(method).back();
      SCOPED_TRACE(testing::Message() << models << " models, " << n << " elements");
      const Inputs inputs = MakeInputs(method, n, models);
      ExpectFormula(method, Merged(method, inputs, s), tests::PlainFormula(method, inputs.base, inputs.x, s));
    }
  }
}

TEST_P(EveryMethod, DoesNotDependOnCutsThreadsOrAlignment) {
  const Method& method = *GetParam();
  const size_t rows = 340, columns = 977;  // 5 blocks and a part: more than what a magnitude fact keeps whole
  const Inputs inputs = MakeInputs(method, rows * columns, 2);
  for (const auto& other : Variants(method)) {
    Settings s = {.weight = {0.6, 0.4},
                  .density = {0.5, 0.3},
                  .normalize = true,
                  .rescale = 1,
                  .lambda = 1.1,
                  .other = other,
                  .columns = columns};
    if (!method.Find("rescale")) s.rescale = 0;
    const Floats merged = Merged(method, inputs, s);
    ExpectFormula(method, merged, tests::PlainFormula(method, inputs.base, inputs.x, s));
    ExpectSameBits(Merged(method, inputs, s, {.piece_elements = 1024, .threads = 3, .backwards = true}), merged);
    ExpectSameBits(Merged(method, inputs, s, {.piece_elements = 4096, .threads = 2, .misalign_bytes = 2}), merged);
    ExpectSameBits(Merged(method, inputs, s, {.piece_elements = 8192, .misalign_bytes = 4}), merged);
  }
}

TEST_P(EveryMethod, KnowsItsFamily) {
  const Method& method = *GetParam();
  if (!method.needs_base || method.Find("weight") == nullptr) return;
  // name, whether used and defaults: people swap the method within one recipe.
  const bool sparse = method.name != "task_arithmetic",
             by_chance = method.name.starts_with("dare") || method.name.starts_with("della");
  EXPECT_FALSE(method.Find("weight")->default_value.has_value());
  EXPECT_EQ(method.Find("density")->default_value, 1);
  EXPECT_EQ(method.Find("density")->used, sparse);
  EXPECT_EQ(method.Find("density")->min, 0);
  EXPECT_EQ(method.Find("density")->max, 1);
  EXPECT_EQ(method.Find("normalize")->default_value, method.name == "ties" || method.name == "della" ? 1 : 0);
  EXPECT_EQ(method.Find("rescale")->default_value, by_chance ? 1 : 0);
  EXPECT_EQ(method.Find("lambda")->default_value, 1);
  EXPECT_EQ(method.Find("int8_mask")->default_value, 0);
  EXPECT_FALSE(method.Find("int8_mask")->used);
}

TEST(Methods, SeedTensorAndOrdinalChooseTheMask) {
  const Method& method = *FindMethod("dare_linear");
  const Inputs inputs = MakeInputs(method, 1000, 2);
  const Settings s = {.weight = {1, 1}, .density = {0.5, 0.5}};
  const Floats first = Merged(method, inputs, s);
  Settings other = s;
  other.seed = 6;
  EXPECT_NE(Merged(method, inputs, other), first);
  other = s;
  other.tensor = "lm_head.weight";
  EXPECT_NE(Merged(method, inputs, other), first);
  Inputs swapped = inputs;
  std::swap(swapped.x[0], swapped.x[1]);
  EXPECT_NE(Merged(method, swapped, s), first);
}

TEST(Methods, ADensityThatKeepsNothingLeavesTheBase) {
  const Inputs inputs = MakeInputs(*FindMethod("dare_linear"), 1000, 1);
  for (const char* name : {"dare_linear", "dare_ties"}) {
    for (const double rescale : {0.0, 1.0, kDensityWord}) {
      const Settings s = {.weight = {1}, .density = {1e-10}, .rescale = rescale};
      const Floats out = Merged(*FindMethod(name), inputs, s);
      for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], inputs.base[i]);
    }
  }
}

TEST(Methods, TiesRefusesToKeepNothing) {
  const Method& method = *FindMethod("ties");
  ParameterValues values = {1, 0.01, 1, 0, 1, 0};
  EXPECT_THAT(method.check_tensor(values, 99), testing::HasSubstr("density 0.01 of 99 elements keeps none"));
  EXPECT_EQ(method.check_tensor(values, 100), "");
  EXPECT_EQ(method.check_tensor(values, 0), "");
  values[1] = 1;
  EXPECT_EQ(method.check_tensor(values, 1), "");
  values[1] = 0;
  EXPECT_NE(method.check_tensor(values, 1 << 20), "");
}

TEST(Methods, LinearRefusesToDivideByNothing) {
  const Method& method = *FindMethod("linear");
  const std::vector<ParameterValues> models = {{0.5, 1}, {-0.5, 1}};
  EXPECT_THAT(method.check_models(models, {0, 1}), testing::HasSubstr("normalize: false"));
  EXPECT_EQ(method.check_models(models, {0, 0}), "");
}

TEST(Methods, EqualSettingsAreOneNode) {
  graph::Graph graph;
  const graph::Node* base = tests::AddFloats(&graph, {1, 2});
  const graph::Node* x = tests::AddFloats(&graph, {3, 4});
  const Method& method = *FindMethod("dare_ties");
  ParameterValues values = {0.5, 0.5, 0, 1, 1, 0};
  const ModelInput models[] = {{x, &values}};
  const uint64_t shape[] = {2};
  const auto build = [&](uint64_t seed) {
    return method.build({.graph = &graph,
                         .tensor_name = "t",
                         .shape = shape,
                         .base = base,
                         .models = models,
                         .parameters = &values,
                         .seed = seed});
  };
  const graph::Node* first = build(1);
  EXPECT_EQ(build(1), first);
  EXPECT_NE(build(2), first);
  values[0] = 0.25;
  EXPECT_NE(build(1), first);
  // The fact does not depend on the weight.
  EXPECT_EQ(build(1)->facts()[0]->key(), first->facts()[0]->key());
}

}  // namespace
}  // namespace sluice::merge
