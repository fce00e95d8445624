#include "checkpoint/renamed_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/architecture.h"
#include "checkpoint/canonical_config.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;
using tests::TempDir;

std::shared_ptr<const Checkpoint> Open(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path, {});
  EXPECT_TRUE(checkpoint) << checkpoint.error().ToString();
  return checkpoint ? *checkpoint : nullptr;
}

graph::Key KeyOf(const Checkpoint& checkpoint, const std::string& name) {
  const auto place = checkpoint.tensors().Find(name);
  EXPECT_TRUE(place) << name;
  graph::Graph graph;
  return checkpoint.MakeNode(place.value_or(0), &graph)->key();
}

// TinyLlama under the names of Yi's first releases.
std::string MakeTinyYi(const std::string& dir, const ordered_json& more = {}) {
  tests::MakeTinyLlama(dir);
  std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors({});
  for (tests::TestTensor& tensor : tensors) {
    const auto replace = [&](std::string_view from, std::string_view to) {
      if (const size_t at = tensor.name.find(from); at != std::string::npos) tensor.name.replace(at, from.size(), to);
    };
    replace("input_layernorm", "ln1");
    replace("post_attention_layernorm", "ln2");
  }
  tests::WriteSafetensors(dir + "/model.safetensors", tensors);
  ordered_json config = ordered_json::parse(tests::TinyLlamaConfig({}));
  config["architectures"] = {"YiForCausalLM"};
  config["model_type"] = "Yi";
  config["auto_map"] = {{"AutoConfig", "configuration_yi.YiConfig"}};
  if (more.is_object()) config.update(more);
  tests::WriteText(dir + "/config.json", config.dump());
  return dir;
}

TEST(RenamedCheckpoint, TensorsKeepTheirBytesAndAreSortedAnew) {
  TempDir dir;
  const auto stored = Open(tests::MakeTinyLlama(dir / "m"));
  const auto renamed = Rename(stored, std::vector<RenameRule>{{"model.layers.*.input_layernorm.weight", "a.*"},
                                                              {"model.embed_tokens.weight", "z"}});
  ASSERT_TRUE(renamed) << renamed.error().ToString();
  const Catalogue& tensors = (*renamed)->tensors();
  ASSERT_EQ(tensors.size(), stored->tensors().size());
  EXPECT_EQ(tensors[0].name, "a.0");
  EXPECT_EQ(tensors[tensors.size() - 1].name, "z");
  EXPECT_TRUE(std::ranges::equal(tensors[tensors.size() - 1].shape,
                                 stored->tensors()[*stored->tensors().Find("model.embed_tokens.weight")].shape));
  EXPECT_EQ(KeyOf(**renamed, "a.1"), KeyOf(*stored, "model.layers.1.input_layernorm.weight"));
  EXPECT_EQ(KeyOf(**renamed, "z"), KeyOf(*stored, "model.embed_tokens.weight"));
  EXPECT_EQ(KeyOf(**renamed, "model.norm.weight"), KeyOf(*stored, "model.norm.weight"));
  EXPECT_EQ((*renamed)->config(), stored->config());
  EXPECT_EQ((*renamed)->side_files().size(), stored->side_files().size());

  const auto back = Rename(*renamed, std::vector<RenameRule>{{"a.*", "model.layers.*.input_layernorm.weight"},
                                                             {"z", "model.embed_tokens.weight"}});
  ASSERT_TRUE(back);
  for (size_t i = 0; i < stored->tensors().size(); ++i) {
    const std::string name((*back)->tensors()[i].name);
    EXPECT_EQ(name, stored->tensors()[i].name);
    EXPECT_EQ(KeyOf(**back, name), KeyOf(*stored, name));
  }
}

TEST(RenameTo, YiBecomesLlama) {
  TempDir dir;
  const auto llama = Open(tests::MakeTinyLlama(dir / "llama"));
  const auto yi = Open(MakeTinyYi(dir / "yi", {{"vendor_key", 7}}));
  EXPECT_TRUE(yi->problems().empty()) << yi->problems()[0].message;
  const auto renamed = RenameTo(yi, "llama");
  ASSERT_TRUE(renamed) << renamed.error().ToString();
  for (size_t i = 0; i < llama->tensors().size(); ++i) {
    EXPECT_EQ((*renamed)->tensors()[i].name, llama->tensors()[i].name);
  }
  EXPECT_EQ(KeyOf(**renamed, "model.layers.1.post_attention_layernorm.weight"),
            KeyOf(*yi, "model.layers.1.ln2.weight"));
  const ModelConfig& config = *(*renamed)->config();
  EXPECT_EQ(config.architecture(), "LlamaForCausalLM");
  EXPECT_EQ(config.GetString("model_type"), "llama");
  EXPECT_FALSE(config.json().contains("auto_map"));
  EXPECT_EQ(config.GetInt("vendor_key"), 7u);
  EXPECT_EQ(ArchitectureOf(config)->name, "LlamaForCausalLM");
  EXPECT_EQ(*RenameTo(llama, "llama"), llama);
}

// What a Yi config leaves out means something else in Llama's: it is written out.
TEST(RenameTo, DefaultsStayWhatTheyWere) {
  TempDir dir;
  tests::WriteSafetensors(dir / "model.safetensors",
                          {tests::FloatTensor("model.layers.0.ln1.weight", "BF16", {1}, {1}),
                           tests::FloatTensor("model.layers.0.ln2.weight", "BF16", {1}, {1})});
  for (const char* more : {"", R"(,"num_key_value_heads":null)", R"(,"num_attention_heads":16,"pad_token_id":5)",
                           R"(,"rope_theta":10000)", R"(,"rope_parameters":{"rope_type":"linear","factor":2})",
                           R"(,"rope_scaling":{"type":"linear","factor":2})", R"(,"rope_scaling":null)"}) {
    const std::string text = std::string(R"({"model_type":"Yi","architectures":["YiForCausalLM"])") + more + "}";
    tests::WriteText(dir / "config.json", text);
    const auto yi = Open(dir.path());
    const auto renamed = RenameTo(yi, "llama");
    ASSERT_TRUE(renamed) << renamed.error().ToString();
    ASSERT_TRUE(CheckForContradictions((*renamed)->config()->json())) << text;
    ordered_json expected = ordered_json::parse(yi->config()->Canonical());
    expected["architectures"] = {"LlamaForCausalLM"};
    expected["model_type"] = "llama";
    expected["attention_bias"] = expected["mlp_bias"] = false;
    EXPECT_EQ((*renamed)->config()->Canonical(), CanonicalJson(expected)) << text;
  }
}

TEST(RenameTo, RefusesWhatIsNotTheSame) {
  TempDir dir;
  const auto error = [](const std::shared_ptr<const Checkpoint>& from, const char* to, ErrorCode code) {
    const auto result = RenameTo(from, to);
    EXPECT_FALSE(result);
    if (result) return std::string();
    EXPECT_EQ(result.error().code, code);
    return result.error().ToString();
  };
  const auto yi = Open(MakeTinyYi(dir / "yi"));
  EXPECT_THAT(error(yi, "mistral", ErrorCode::kUsage), HasSubstr("there is --to llama"));
  EXPECT_THAT(error(yi, "Yi", ErrorCode::kUsage), HasSubstr("there is --to llama"));
  EXPECT_THAT(error(yi, "", ErrorCode::kUsage), HasSubstr("there is --to llama"));
  for (const char* other : {"MistralForCausalLM", "Qwen2ForCausalLM", "NobodysForCausalLM"}) {
    tests::WriteText(dir / "yi/config.json", R"({"architectures":[")" + std::string(other) + R"("],"model_type":"x"})");
    EXPECT_THAT(error(Open(dir / "yi"), "llama", ErrorCode::kUnsupported),
                HasSubstr(std::string("is a ") + other + ", and only YiForCausalLM is a LlamaForCausalLM"));
  }
  tests::WriteSafetensors(dir / "x.safetensors", tests::TinyLlamaTensors({}));
  EXPECT_THAT(error(Open(dir / "x.safetensors"), "llama", ErrorCode::kUsage), HasSubstr("no config.json"));
  // A Yi by its config, whose tensors have other names.
  const std::string path = tests::MakeTinyLlama(dir / "llama");
  tests::WriteText(path + "/config.json", R"({"architectures":["YiForCausalLM"],"model_type":"Yi"})");
  EXPECT_THAT(error(Open(path), "llama", ErrorCode::kUsage), HasSubstr("no tensor has such a name"));
}

// Whoever adds an architecture that renames to another is held to this.
TEST(RenameTo, ArchitecturesThatRenameAreTheSame) {
  int found = 0;
  for (const std::string_view name : ArchitectureNames()) {
    const Architecture& from = *ArchitectureByName(name);
    if (from.renames_to.empty()) continue;
    ++found;
    const Architecture* to = ArchitectureByModelType(from.renames_to);
    ASSERT_NE(to, nullptr) << name;
    EXPECT_EQ(from.sliding_rope_theta, to->sliding_rope_theta) << name;
    EXPECT_EQ(from.settle, to->settle) << name;
    EXPECT_EQ(from.traits, to->traits) << name;
    size_t same = 0, wanted = 0;
    for (const TensorRule& b : to->tensors) {
      wanted += b.when == When::kAlways || b.when == When::kUntied ? 1 : 0;
      for (const TensorRule& a : from.tensors) {
        same += a.step == b.step && a.rows == b.rows && a.columns == b.columns && a.when == b.when ? 1 : 0;
        if (a.name == b.name) EXPECT_EQ(a.step, b.step) << a.name;
      }
    }
    EXPECT_EQ(same, from.tensors.size()) << name;  // each of its tensors is one of the other's, ...
    EXPECT_GE(same, wanted) << name;               // ... which has no others that always are
  }
  EXPECT_GE(found, 1);
}

}  // namespace
}  // namespace sluice::checkpoint
