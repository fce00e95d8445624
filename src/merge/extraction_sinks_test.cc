#include "merge/extraction_sinks.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "stream/testing/fake_stream.h"

namespace sluice::merge {
namespace {

using checkpoint::Checkpoint;
using checkpoint::Part;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tests::FloatTensor;
using tests::TempDir;
using tests::TestTensor;

constexpr char kLayer[] = "model.layers.0.mlp.up_proj.weight";

Part PartOf(std::string_view name) {
  if (name.find("embed") != std::string_view::npos) return Part::kEmbedding;
  if (name.find("lm_head") != std::string_view::npos) return Part::kHead;
  return name.find("norm") != std::string_view::npos ? Part::kNorms : Part::kMlp;
}

std::shared_ptr<const Checkpoint> Model(const std::string& dir, const std::vector<TestTensor>& tensors) {
  std::filesystem::create_directories(dir);
  tests::WriteSafetensors(dir + "/model.safetensors", tensors);
  auto opened = checkpoint::OpenCheckpoint(dir + "/model.safetensors", {});
  EXPECT_TRUE(opened) << opened.error().ToString();
  return *opened;
}

std::vector<float> Ramp(uint64_t count, float step) {
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) values[i] = step * static_cast<float>(i % 17) - step * static_cast<float>(i % 5);
  return values;
}

ExtractionOptions Options(uint64_t rank, bool include_embeddings = false) {
  return {.rank = rank, .include_embeddings = include_embeddings, .part_of = PartOf};
}

TEST(PairTensors, SaysWhyATensorIsNoLayer) {
  TempDir dir;
  std::vector<TestTensor> tensors = {FloatTensor("lm_head.weight", "F32", {5, 2}, Ramp(10, 1)),
                                     FloatTensor("model.embed_tokens.weight", "F32", {5, 2}, Ramp(10, 1)),
                                     FloatTensor(kLayer, "F32", {3, 2}, Ramp(6, 1)),
                                     FloatTensor("model.norm.weight", "F32", {2}, Ramp(2, 1)),
                                     FloatTensor("model.experts", "BF16", {2, 2, 2}, Ramp(8, 1)),
                                     FloatTensor("model.A_log", "F16", {2, 2}, Ramp(4, 1)),
                                     {"model.ids", "I64", {1}, std::vector<uint8_t>(8)}};
  const auto model = Model(dir / "m", tensors);
  const auto plain = PairTensors(*model, *model, Options(2));
  ASSERT_TRUE(plain) << plain.error().ToString();
  std::map<std::string, std::string> obstacles;
  for (const TensorPair& pair : plain->pairs) obstacles[pair.name] = pair.obstacle;
  EXPECT_EQ(obstacles, (std::map<std::string, std::string>{{"lm_head.weight", "the head"},
                                                           {"model.A_log", "not the weight of a layer"},
                                                           {"model.embed_tokens.weight", "an embedding"},
                                                           {"model.experts", "3 dimensions"},
                                                           {kLayer, ""},
                                                           {"model.norm.weight", "one dimension"}}));
  EXPECT_THAT(plain->unread, ElementsAre("model.ids"));

  const auto with = PairTensors(*model, *model, Options(2, true));
  ASSERT_TRUE(with);
  EXPECT_TRUE(with->pairs[0].is_layer());  // lm_head
  EXPECT_FALSE(with->pairs[0].transposed);
  EXPECT_TRUE(with->pairs[2].is_layer());  // the embedding
  EXPECT_TRUE(with->pairs[2].transposed);
}

TEST(PairTensors, RefusesWhatIsNotTheFineTunesBase) {
  TempDir dir;
  const auto base = Model(dir / "base", {FloatTensor(kLayer, "F32", {3, 2}, Ramp(6, 1)),
                                         FloatTensor("model.embed_tokens.weight", "F32", {5, 2}, Ramp(10, 1))});
  const auto refusal = [&](const std::string& name, const std::vector<TestTensor>& tensors) {
    const auto pairs = PairTensors(*Model(dir / name, tensors), *base, Options(1));
    EXPECT_FALSE(pairs);
    return pairs ? std::string() : pairs.error().message;
  };
  const TestTensor layer = FloatTensor(kLayer, "F32", {3, 2}, Ramp(6, 1));
  EXPECT_THAT(refusal("less", {layer}), AllOf(HasSubstr("embed_tokens"), HasSubstr("does not have")));
  EXPECT_THAT(refusal("grown", {layer, FloatTensor("model.embed_tokens.weight", "F32", {6, 2}, Ramp(12, 1))}),
              AllOf(HasSubstr("[6, 2]"), HasSubstr("[5, 2]"), HasSubstr("vocabularies")));
  for (const uint64_t rank : {uint64_t{0}, uint64_t{3}, uint64_t{1} << 40}) {
    const auto pairs = PairTensors(*base, *base, Options(rank));
    ASSERT_FALSE(pairs) << rank;
    EXPECT_EQ(pairs.error().code, ErrorCode::kUsage);
  }
}

TEST(PlanAdapter, ABeforeBLayerAfterLayerAndTheConfigOfIt) {
  TempDir dir;
  std::vector<TestTensor> tensors;
  for (const std::string layer : {"1", "10", "2"}) {
    tensors.push_back(FloatTensor("model.layers." + layer + ".up_proj.weight", "F32", {6, 4}, Ramp(24, 1)));
    tensors.push_back(FloatTensor("model.layers." + layer + ".k_proj.weight", "F32", {2, 4}, Ramp(8, 1)));
  }
  const auto model = Model(dir / "m", tensors);
  const auto pairs = PairTensors(*model, *model, Options(4));
  ASSERT_TRUE(pairs);
  const auto form = PlanAdapter(pairs->pairs, {0, 1, 2, 3, 5});  // not layers.2.k_proj
  ASSERT_TRUE(form) << form.error().ToString();
  std::vector<std::string> names;
  for (const uint32_t layer : form->layers) names.push_back(pairs->pairs[layer].module);
  EXPECT_THAT(names, ElementsAre("model.layers.1.k_proj", "model.layers.1.up_proj", "model.layers.10.k_proj",
                                 "model.layers.10.up_proj", "model.layers.2.up_proj"));
  EXPECT_EQ(form->tensors[form->plan.order[0]].name, "base_model.model.model.layers.1.k_proj.lora_A.weight");
  EXPECT_THAT(form->tensors[form->plan.order[1]].shape, ElementsAre(2, 2));
  EXPECT_THAT(form->tensors[form->plan.order[2]].shape, ElementsAre(4, 4));
  const auto config = nlohmann::json::parse(AdapterConfigText(*model, pairs->pairs, form->layers, 4));
  EXPECT_EQ(config["target_modules"],
            (std::vector<std::string>{"model.layers.1.k_proj", "model.layers.10.k_proj", "up_proj"}));
  EXPECT_EQ(config["rank_pattern"], (nlohmann::json{{"model.layers.1.k_proj", 2}, {"model.layers.10.k_proj", 2}}));
  EXPECT_EQ(config["alpha_pattern"], config["rank_pattern"]);
  EXPECT_EQ(config["task_type"], nullptr);  // there is no config
}

tests::FakeGroup Group(const std::vector<std::vector<float>>& outs) {
  tests::FakeGroup group{.encoding = quant::F32(), .outs = {}};
  for (const std::vector<float>& values : outs) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    group.outs.emplace_back(bytes, bytes + values.size() * sizeof(float));
  }
  return group;
}

class DifferenceSinkTest : public ::testing::Test {
 protected:
  DifferenceSinkTest() : model_(Model(dir_ / "m", {FloatTensor(kLayer, "F32", {40, 25}, Ramp(1000, 1))})) {
    pairs_ = std::move(PairTensors(*model_, *model_, Options(2))->pairs);
  }
  Result<TensorChange> Sizes(const std::vector<float>& difference, const std::vector<float>& base, uint32_t seed) {
    const DifferenceGroups groups(*model_, *model_, pairs_, {0}, 1, true);
    DifferenceSink sink(groups);
    stream::Sink* const sinks[] = {&sink};
    tests::FakeStream stream({Group({difference, base})}, {.max_piece_elements = 100, .seed = seed});
    SLUICE_TRY(stream::Pump(stream, sinks));
    return sink.changes()[0];
  }
  TempDir dir_;
  std::shared_ptr<const Checkpoint> model_;
  std::vector<TensorPair> pairs_;
};

TEST_F(DifferenceSinkTest, SumsOfSquaresTheSameHoweverItIsCut) {
  const std::vector<float> difference = Ramp(1000, 0.001f), base = Ramp(1000, 0.1f);
  double squares = 0;
  for (const float d : difference) squares += static_cast<double>(d) * d;
  const auto first = Sizes(difference, base, 1);
  ASSERT_TRUE(first);
  EXPECT_NEAR(first->difference / squares, 1, 1e-13);
  EXPECT_NEAR(first->base / first->difference, 1e4, 1e-2);
  for (uint32_t seed = 2; seed < 10; ++seed) {
    const auto other = Sizes(difference, base, seed);
    EXPECT_EQ(other->difference, first->difference);
    EXPECT_EQ(other->base, first->base);
  }
}

TEST_F(DifferenceSinkTest, NamesTheElementThatIsNoNumber) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> difference = Ramp(1000, 0.001f);
    difference[613] = bad;
    const auto sizes = Sizes(difference, Ramp(1000, 1), 3);
    ASSERT_FALSE(sizes);
    EXPECT_EQ(sizes.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(sizes.error().ToString(), AllOf(HasSubstr(kLayer), HasSubstr("element 613")));
  }
}

}  // namespace
}  // namespace sluice::merge
