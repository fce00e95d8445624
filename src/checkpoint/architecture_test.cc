// Every architecture as data: what its defaults predict, and real (tiny) models of each against its tensors' rules.
#include "checkpoint/architecture.h"

#include <filesystem>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/canonical_config.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

const std::filesystem::path kModels = SLUICE_SOURCE_DIR "/tests/goldens/inference/models";

std::shared_ptr<const ModelConfig> Config(std::string_view text) {
  auto config = ModelConfig::Parse(text, "config.json");
  EXPECT_TRUE(config) << config.error().ToString();
  return config ? *config : nullptr;
}

std::string Canonical(const std::string& model_type, const std::string& more = "") {
  return Config(R"({"model_type":")" + model_type + "\"" + more + "}")->Canonical();
}

// As transformers 5.12.1 has them: the config class without arguments, without what does not change the model. Yi's is
// 01-ai's own.
TEST(Architecture, DefaultsAreThoseOfTransformers) {
  const std::string qwen =
      R"("hidden_act":"silu","hidden_size":4096,"intermediate_size":22016,"max_position_embeddings":32768,)"
      R"("max_window_layers":28,"model_type":"MODEL_TYPE","num_attention_heads":32,"num_hidden_layers":32,)"
      R"("num_key_value_heads":32,"rms_norm_eps":1e-06,"rope_parameters":{"rope_theta":10000,"rope_type":"default"},)"
      R"("sliding_window":null,"tie_word_embeddings":false,"use_sliding_window":false,"vocab_size":151936)";
  const std::map<std::string, std::string> expected = {
      {"mistral",
       R"({"bos_token_id":1,"eos_token_id":2,"head_dim":128,"hidden_act":"silu","hidden_size":4096,)"
       R"("intermediate_size":14336,"max_position_embeddings":131072,"model_type":"mistral","num_attention_heads":32,)"
       R"("num_hidden_layers":32,"num_key_value_heads":8,"rms_norm_eps":1e-06,)"
       R"("rope_parameters":{"rope_theta":10000,"rope_type":"default"},"sliding_window":4096,)"
       R"("tie_word_embeddings":false,"vocab_size":32000})"},
      {"qwen2", R"({"head_dim":128,)" + qwen + "}"},
      {"qwen3", R"({"attention_bias":false,"head_dim":128,)" + qwen + "}"},
      {"gemma2",
       R"({"attention_bias":false,"attn_logit_softcapping":50,"bos_token_id":2,"eos_token_id":1,)"
       R"("final_logit_softcapping":30,"head_dim":256,"hidden_activation":"gelu_pytorch_tanh","hidden_size":2304,)"
       R"("intermediate_size":9216,"max_position_embeddings":8192,"model_type":"gemma2","num_attention_heads":8,)"
       R"("num_hidden_layers":26,"num_key_value_heads":4,"pad_token_id":0,"query_pre_attn_scalar":256,)"
       R"("rms_norm_eps":1e-06,"rope_parameters":{"rope_theta":10000,"rope_type":"default"},"sliding_window":4096,)"
       R"("tie_word_embeddings":true,"vocab_size":256000})"},
      {"gemma3_text", R"({"attention_bias":false,"bos_token_id":2,"eos_token_id":1,)"
                      R"("head_dim":256,"hidden_activation":"gelu_pytorch_tanh","hidden_size":2304,)"
                      R"("intermediate_size":9216,"max_position_embeddings":131072,"model_type":"gemma3_text",)"
                      R"("num_attention_heads":8,"num_hidden_layers":26,"num_key_value_heads":4,"pad_token_id":0,)"
                      R"("query_pre_attn_scalar":256,"rms_norm_eps":1e-06,)"
                      R"("rope_parameters":{"full_attention":{"rope_theta":1000000,"rope_type":"default"},)"
                      R"("sliding_attention":{"rope_theta":10000,"rope_type":"default"}},"sliding_window":4096,)"
                      R"("tie_word_embeddings":true,"use_bidirectional_attention":false,"vocab_size":262208})"},
      {"Yi", R"({"bos_token_id":1,"eos_token_id":2,"head_dim":128,"hidden_act":"silu","hidden_size":4096,)"
             R"("intermediate_size":11008,"max_position_embeddings":4096,"model_type":"Yi","num_attention_heads":32,)"
             R"("num_hidden_layers":32,"num_key_value_heads":4,"pad_token_id":0,"rms_norm_eps":1e-05,)"
             R"("rope_parameters":{"rope_theta":5000000,"rope_type":"default"},"tie_word_embeddings":false,)"
             R"("vocab_size":64000})"},
      {"phi3",
       R"({"bos_token_id":1,"eos_token_id":32000,"head_dim":96,"hidden_act":"silu","hidden_size":3072,)"
       R"("intermediate_size":8192,"max_position_embeddings":4096,"model_type":"phi3","num_attention_heads":32,)"
       R"("num_hidden_layers":32,"num_key_value_heads":32,"original_max_position_embeddings":4096,)"
       R"("pad_token_id":32000,"rms_norm_eps":1e-05,)"
       R"("rope_parameters":{"partial_rotary_factor":1,"rope_theta":10000,"rope_type":"default"},)"
       R"("tie_word_embeddings":false,"vocab_size":32064})"},
  };
  for (const auto& [model_type, text] : expected) {
    ordered_json wanted = ordered_json::parse(text);
    wanted["model_type"] = model_type;
    ordered_json got = ordered_json::parse(Canonical(model_type));
    got.erase("layer_types");  // below
    EXPECT_EQ(CanonicalJson(got), CanonicalJson(wanted));
  }
}

TEST(Architecture, LayerTypesThatAConfigImplies) {
  const auto slides = [](const std::string& model_type, const std::string& more) {
    std::string text;
    const ordered_json config = ordered_json::parse(Canonical(model_type, more));
    for (const auto& type : config.at("layer_types")) text += type == "sliding_attention" ? 's' : 'f';
    return text;
  };
  const std::string seven = R"(,"num_hidden_layers":7)";
  EXPECT_EQ(slides("gemma2", seven), "sfsfsfs");
  EXPECT_EQ(slides("gemma3_text", seven), "sssssfs");
  EXPECT_EQ(slides("gemma3_text", seven + R"(,"sliding_window_pattern":3)"), "ssfssfs");
  EXPECT_EQ(slides("gemma3_text", seven + R"(,"_sliding_window_pattern":3)"), "sssssfs");  // nobody reads that one
  EXPECT_EQ(slides("qwen2", seven), "fffffff");
  EXPECT_EQ(slides("qwen2", seven + R"(,"max_window_layers":5)"), "fffffff");
  EXPECT_EQ(slides("qwen2", seven + R"(,"max_window_layers":5,"use_sliding_window":true)"), "fffffss");
  EXPECT_EQ(slides("qwen3", seven + R"(,"max_window_layers":0,"use_sliding_window":true)"), "sssssss");
  EXPECT_EQ(slides("qwen3", seven + R"(,"max_window_layers":0,"use_sliding_window":true,"sliding_window":null)"),
            "fffffff");
}

TEST(Architecture, SpellingsOfOneModelAreOneText) {
  EXPECT_EQ(Canonical("qwen2", R"(,"sliding_window":131072,"use_sliding_window":false)"),
            Canonical("qwen2", R"(,"sliding_window":null)"));
  EXPECT_NE(Canonical("qwen2", R"(,"sliding_window":131072,"use_sliding_window":true)"), Canonical("qwen2"));
  EXPECT_NE(Canonical("mistral", R"(,"sliding_window":null)"), Canonical("mistral"));
  EXPECT_EQ(Canonical("phi3", R"(,"sliding_window":null)"), Canonical("phi3"));
  EXPECT_EQ(Canonical("gemma3_text", R"(,"final_logit_softcapping":null)"), Canonical("gemma3_text"));
  EXPECT_NE(Canonical("gemma2", R"(,"final_logit_softcapping":null)"), Canonical("gemma2"));
  EXPECT_EQ(Canonical("mistral", R"(,"num_attention_heads":16,"num_key_value_heads":null)"),
            Canonical("mistral", R"(,"num_attention_heads":16,"num_key_value_heads":16)"));
  EXPECT_EQ(Canonical("phi3", R"(,"partial_rotary_factor":0.75,"rope_scaling":{"type":"su","short_factor":[1]})"),
            Canonical("phi3", R"(,"rope_parameters":{"partial_rotary_factor":0.75,"rope_type":"longrope",)"
                              R"("short_factor":[1],"original_max_position_embeddings":4096,"rope_theta":10000.0})"));
  EXPECT_EQ(Canonical("gemma3_text", R"(,"num_hidden_layers":2,"sliding_window_pattern":2)"),
            Canonical("gemma3_text", R"(,"num_hidden_layers":2,"_sliding_window_pattern":6,)"
                                     R"("layer_types":["sliding_attention","full_attention"])"));
  EXPECT_EQ(Canonical("gemma3_text", R"(,"rope_theta":5e5)"),
            Canonical("gemma3_text", R"(,"rope_parameters":{"full_attention":{"rope_theta":500000}})"));
}

// A hostile config makes no list of its length, and no step falls over what the one before it could not make.
TEST(Architecture, NoListForAbsurdLayers) {
  for (const char* model_type : {"gemma2", "gemma3_text", "qwen2", "qwen3"}) {
    for (const char* layers : {"1000000000000", "-1", "\"x\"", "null", "[]"}) {
      const std::string text =
          Canonical(model_type, std::string(R"(,"sliding_window_pattern":0,"num_hidden_layers":)") + layers);
      EXPECT_THAT(text, Not(HasSubstr("layer_types"))) << text;
    }
  }
  EXPECT_THAT(Canonical("phi3", R"(,"rope_parameters":{"rope_type":{}},"partial_rotary_factor":[])"),
              HasSubstr(R"("partial_rotary_factor":[])"));
}

class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  std::string Folder() const { return kModels / GetParam(); }
  std::shared_ptr<const ModelConfig> ConfigFile(const char* name) const {
    return Config(tests::ReadText(Folder() + "/" + name));
  }
};

TEST_P(GoldenModel, TensorsAreWhatTheConfigPredicts) {
  auto model = OpenCheckpoint(Folder(), {});
  ASSERT_TRUE(model) << model.error().ToString();
  for (const Problem& problem : (*model)->problems()) {
    if (problem.file.ends_with("golden.safetensors")) continue;  // lies beside, and is not read
    EXPECT_EQ(problem.severity, Problem::Severity::kNote) << problem.message;
  }
  uint64_t stored = 0;
  const Catalogue& tensors = (*model)->tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t count = 1;
    for (const uint64_t dim : tensors[i].shape) count *= dim;
    stored += count;
  }
  EXPECT_EQ((*model)->config()->PredictedParameters(), stored);
}

TEST_P(GoldenModel, BothReleasesConfigsAreOneText) {
  EXPECT_EQ(ConfigFile("config.json")->Canonical(), ConfigFile("config.v4.json")->Canonical());
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel,
                         ::testing::Values("gemma2", "gemma3_text", "llama_bias", "llama_gqa", "llama_rope_dynamic",
                                           "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn", "llama_tied",
                                           "llama_yi", "mistral_window", "phi3", "phi3_longrope", "qwen2", "qwen3"),
                         [](const auto& name) { return name.param; });

// For all of them at once: whoever adds a file is held to this.
TEST(Architecture, EachIsWhole) {
  EXPECT_GE(ArchitectureNames().size(), 8u);
  for (const Architecture* one : AllArchitectures()) {
    SCOPED_TRACE(one->name);
    EXPECT_EQ(ArchitectureByName(one->name), one);
    EXPECT_EQ(ArchitectureByModelType(one->model_type), one);
    std::set<std::string_view> keys;
    for (const ConfigDefault& key : one->defaults) {
      EXPECT_TRUE(keys.insert(key.key).second) << key.key;
      EXPECT_EQ(key.json.empty(), key.derive != nullptr) << key.key;
      if (key.derive == nullptr) EXPECT_TRUE(ordered_json::accept(key.json)) << key.key;
    }
    EXPECT_TRUE(keys.contains("num_hidden_layers"));
    EXPECT_TRUE(keys.contains("tie_word_embeddings"));
    EXPECT_EQ(one->traits.windows != Windows::kNone, keys.contains("sliding_window"));
    EXPECT_EQ(one->traits.windows == Windows::kLayerTypes, keys.contains("layer_types"));
    EXPECT_NE(one->runs(), !one->outline.tensors.empty());
    EXPECT_TRUE(Config(R"({"architectures":[")" + std::string(one->name) + R"("]})")->PredictedParameters());
  }
  EXPECT_EQ(ArchitectureByName("llama"), nullptr);
}

TEST(Architecture, EachThatRunsHasAllDefaults) {
  for (const std::string_view name : ArchitectureNames()) {
    SCOPED_TRACE(name);
    const Architecture* one = ArchitectureByName(name);
    std::set<std::string_view> keys, tensors;
    for (const ConfigDefault& key : one->defaults) keys.insert(key.key);
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "model_type", "num_attention_heads",
                            "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps"}) {
      EXPECT_TRUE(keys.contains(key)) << key;
    }
    for (const std::string_view key : {one->traits.activation_key, one->traits.attention_scale_key,
                                       one->traits.attention_softcap_key, one->traits.final_softcap_key}) {
      EXPECT_TRUE(key.empty() || keys.contains(key)) << key;
    }
    for (const TensorRule& rule : one->tensors) EXPECT_TRUE(tensors.insert(rule.name).second) << rule.name;
  }
}

// What only some of the defaults are known of keeps the canonical config, and so the root, that it had.
TEST(Architecture, CanonicalConfigsHaveNoDefaultsOfWhatDoesNotRun) {
  EXPECT_EQ(Canonical("mixtral", R"(,"hidden_size":8)"), R"({"hidden_size":8,"model_type":"mixtral"})");
  EXPECT_EQ(Config(R"({"model_type":"mixtral"})")->GetNumber("rope_theta"), std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"gpt2"})")->GetInt("num_hidden_layers"), 12u);
}

}  // namespace
}  // namespace sluice::checkpoint
