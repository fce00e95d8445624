// Tables of architectures against what transformers' own classes have: tests/goldens/architectures.
#include "checkpoint/expected_tensors.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/testing/tiny_models.h"
#include "quant/encoding.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Presence = ExpectedTensor::Presence;

const ordered_json& Goldens() {
  static const ordered_json kGoldens =
      ordered_json::parse(tests::ReadText(SLUICE_SOURCE_DIR "/tests/goldens/architectures/architectures.json"));
  return kGoldens;
}

std::shared_ptr<const ModelConfig> Config(ordered_json json) { return ModelConfig::FromJson(std::move(json)); }

uint64_t Product(const std::vector<uint64_t>& shape) {
  uint64_t product = 1;
  for (const uint64_t dim : shape) product *= dim;
  return product;
}

using Shapes = std::vector<std::pair<std::string, std::vector<uint64_t>>>;

Shapes ShapesOf(const ordered_json& tensors) {
  Shapes shapes;
  for (const auto& [name, shape] : tensors.items()) shapes.emplace_back(name, shape.get<std::vector<uint64_t>>());
  return shapes;
}

std::vector<Problem> Compare(const ordered_json& config, const Shapes& tensors) {
  Catalogue catalogue;
  for (const auto& [name, shape] : tensors) catalogue.Add(name, quant::F32(), shape, Product(shape));
  catalogue.Sort();
  std::vector<Problem> problems;
  CompareWithConfig(*Config(config), catalogue, "m", &problems);
  return problems;
}

// Notes say what is tied; whatever else there is, is a difference.
std::string Differences(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    if (problem.severity != Problem::Severity::kNote) text += problem.message + "\n";
  }
  return text;
}

class GoldenArchitecture : public ::testing::TestWithParam<std::string> {
 protected:
  const ordered_json& config() const { return Goldens()["cases"][GetParam()]["config"]; }
  Shapes tensors() const { return ShapesOf(Goldens()["cases"][GetParam()]["tensors"]); }
};

TEST_P(GoldenArchitecture, EachTensorIsExpectedWithItsShapeAndNoneIsMissing) {
  EXPECT_EQ(Differences(Compare(config(), tensors())), "");
}

TEST_P(GoldenArchitecture, ParametersAreTheSum) {
  uint64_t sum = 0;
  for (const auto& [name, shape] : tensors()) sum += Product(shape);
  EXPECT_EQ(Config(config())->PredictedParameters(), sum);
}

TEST_P(GoldenArchitecture, EachTensorHasAPart) {
  const auto parts = PartsByPattern(*ArchitectureOf(*Config(config())));
  for (const auto& [name, shape] : tensors()) EXPECT_TRUE(parts.contains(NumberPattern(name))) << name;
}

TEST_P(GoldenArchitecture, WhatDiffersIsFound) {
  // Each tensor by itself: absent, of another shape, and under another name.
  for (size_t i = 0; i < tensors().size(); ++i) {
    Shapes changed = tensors();
    const std::string name = changed[i].first;
    changed[i].second[0] += 1;
    EXPECT_THAT(Differences(Compare(config(), changed)), HasSubstr(name + " has ")) << name;
    changed.erase(changed.begin() + static_cast<ptrdiff_t>(i));
    EXPECT_THAT(Differences(Compare(config(), changed)), HasSubstr("missing: ")) << name;
  }
  Shapes more = tensors();
  more.emplace_back("model.layers.0.strange.weight", std::vector<uint64_t>{1});
  EXPECT_THAT(Differences(Compare(config(), more)), HasSubstr("1 tensors are not part of a "));
}

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& [name, golden] : Goldens()["cases"].items()) names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, GoldenArchitecture, ::testing::ValuesIn(CaseNames()),
                         [](const auto& name) { return name.param; });

TEST(ExpectedTensors, DefaultsAreThoseOfTransformers) {
  for (const auto& [name, golden] : Goldens()["defaults"].items()) {
    const std::string type = golden["model_type"];
    const auto config = Config({{"architectures", {name}}, {"model_type", type}});
    EXPECT_EQ(config->PredictedParameters(), golden["parameters"].get<uint64_t>()) << name;
  }
}

TEST(ExpectedTensors, EachArchitectureThatDoesNotRunHasAGolden) {
  std::set<std::string> of_remote_code = {"InternLM2ForCausalLM", "ExaoneForCausalLM"};  // below
  for (const Architecture* one : AllArchitectures()) {
    if (one->runs()) continue;
    EXPECT_NE(Goldens()["defaults"].contains(one->name), of_remote_code.contains(std::string(one->name))) << one->name;
    for (const ModelClass& each : one->outline.classes) EXPECT_TRUE(Goldens()["defaults"].contains(each.name));
  }
}

// InternLM2-7B and EXAONE-3.0-7.8B.
TEST(ExpectedTensors, OfModelsWithCodeOfTheirOwn) {
  EXPECT_EQ(Config({{"model_type", "internlm2"},
                    {"bias", false},
                    {"intermediate_size", 14336},
                    {"num_key_value_heads", 8},
                    {"vocab_size", 92544}})
                ->PredictedParameters(),
            7737708544u);
  EXPECT_EQ(Config({{"model_type", "exaone"},
                    {"hidden_size", 4096},
                    {"intermediate_size", 14336},
                    {"num_layers", 32},
                    {"num_key_value_heads", 8},
                    {"tie_word_embeddings", false}})
                ->PredictedParameters(),
            7818448896u);
  const auto internlm = Expect(*Config({{"model_type", "internlm2"}, {"num_key_value_heads", 8}}));
  ASSERT_TRUE(internlm);
  EXPECT_EQ(internlm->tensors[2].NameOf("", 3, 0), "model.layers.3.attention.wqkv.weight");
  EXPECT_THAT(*internlm->tensors[2].shape, ElementsAre(48 * 128, 4096));
}

// As the models of 2019 were published: without a prefix, with buffers, and norms by other names.
TEST(ExpectedTensors, OldFiles) {
  const auto rename = [](Shapes* tensors, const auto& change) {
    for (auto& [name, shape] : *tensors) name = change(name);
  };
  const ordered_json& gpt2 = Goldens()["cases"]["gpt2"];
  Shapes tensors = ShapesOf(gpt2["tensors"]);
  rename(&tensors, [](const std::string& name) { return name.substr(std::string("transformer.").size()); });
  tensors.emplace_back("h.0.attn.bias", std::vector<uint64_t>{1, 1, 16, 16});
  EXPECT_EQ(Differences(Compare(gpt2["config"], tensors)), "");
  tensors.erase(tensors.begin() + 4);
  EXPECT_THAT(Differences(Compare(gpt2["config"], tensors)), HasSubstr("missing: h.0.attn.c_attn.weight"));

  const ordered_json& bert = Goldens()["cases"]["bert_masked"];
  tensors = ShapesOf(bert["tensors"]);
  rename(&tensors, [](const std::string& name) {
    for (const auto& [now, then] :
         {std::pair("LayerNorm.weight", "LayerNorm.gamma"), {"LayerNorm.bias", "LayerNorm.beta"}}) {
      if (name.ends_with(now)) return name.substr(0, name.size() - std::string(now).size()) + then;
    }
    return name;
  });
  tensors.emplace_back("cls.seq_relationship.weight", std::vector<uint64_t>{2, 24});
  tensors.emplace_back("bert.embeddings.position_ids", std::vector<uint64_t>{1, 16});
  EXPECT_EQ(Differences(Compare(bert["config"], tensors)), "");

  // A class without a prefix reads files with one.
  ordered_json base = bert["config"];
  base["architectures"] = {"BertModel"};
  tensors = ShapesOf(Goldens()["cases"]["bert_two_classes"]["tensors"]);
  tensors.resize(tensors.size() - 2);  // the classifier
  EXPECT_EQ(Differences(Compare(base, tensors)), "");
}

TEST(ExpectedTensors, TiedHeadsAreNotesAndMayBeThere) {
  const ordered_json& golden = Goldens()["cases"]["gpt2"];
  Shapes tensors = ShapesOf(golden["tensors"]);
  const auto problems = Compare(golden["config"], tensors);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].tensor, "lm_head.weight");
  tensors.emplace_back("lm_head.weight", std::vector<uint64_t>{40, 24});
  EXPECT_TRUE(Compare(golden["config"], tensors).empty());
}

// No list and no loop is as long as a config claims.
TEST(ExpectedTensors, AbsurdSizes) {
  const Shapes one = {{"model.embed_tokens.weight", {4, 4}}};
  const auto message = [&](const char* key, const ordered_json& value) {
    ordered_json config = {{"model_type", "qwen3_moe"}, {"num_hidden_layers", 1}};
    config[key] = value;
    return Differences(Compare(config, one));
  };
  EXPECT_THAT(message("num_hidden_layers", 1u << 20), HasSubstr("does not give the sizes"));
  EXPECT_THAT(message("num_hidden_layers", 100), HasSubstr("100 layers, more than there are tensors"));
  EXPECT_THAT(message("num_experts", UINT64_MAX), HasSubstr("more than there are tensors"));
  EXPECT_THAT(message("num_experts", "many"), HasSubstr("does not give the sizes"));
  EXPECT_THAT(message("decoder_sparse_step", 0), HasSubstr("does not give the sizes"));
  EXPECT_THAT(message("mlp_layer_types", ordered_json::array({1, 2})), HasSubstr("does not give the sizes"));
  EXPECT_EQ(Config({{"model_type", "qwen3_moe"}, {"moe_intermediate_size", UINT64_MAX}})->PredictedParameters(),
            std::nullopt);
  EXPECT_EQ(Config({{"model_type", "gpt2"}, {"n_embd", UINT64_MAX}})->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config({{"model_type", "mamba"}, {"expand", 1e300}})->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config({{"model_type", "falcon"}, {"num_attention_heads", 0}})->PredictedParameters(), std::nullopt);
}

TEST(ExpectedTensors, PatternsOfNumbers) {
  EXPECT_EQ(NumberPattern("model.layers.12.mlp.experts.3.w"), "model.layers.*.mlp.experts.*.w");
  EXPECT_EQ(NumberPattern("7"), "*");
  EXPECT_EQ(NumberPattern("h1.2b.c"), "h1.2b.c");
  EXPECT_EQ(NumberPattern(""), "");
  EXPECT_EQ(NumberPattern("a..1."), "a..*.");
}

}  // namespace
}  // namespace sluice::checkpoint
