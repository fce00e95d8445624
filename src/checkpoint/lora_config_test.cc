#include "checkpoint/lora_config.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;

LoraConfig Parsed(const std::string& more) {
  auto config = LoraConfig::Parse(R"({"peft_type":"LORA")" + (more.empty() ? "" : "," + more) + "}", "a.json");
  EXPECT_TRUE(config) << config.error().ToString();
  return config ? std::move(*config) : LoraConfig();
}

std::string ErrorOf(const std::string& text, ErrorCode code) {
  const auto config = LoraConfig::Parse(text, "a.json");
  EXPECT_FALSE(config) << text;
  if (config) return "";
  EXPECT_EQ(config.error().code, code) << config.error().ToString();
  EXPECT_THAT(config.error().context, ::testing::ElementsAre("a.json"));
  return config.error().message;
}

bool Matches(const std::string& key, const std::string& module) {
  const auto pattern = ModulePattern::Parse(key);
  EXPECT_TRUE(pattern) << key << ": " << pattern.error().message;
  return pattern && pattern->Matches(module);
}

TEST(LoraConfig, ScaleIsAlphaOverTheRank) {
  EXPECT_EQ(Parsed("").Scale("x"), 1.0f);  // PEFT's defaults: 8 and 8
  EXPECT_EQ(Parsed(R"("r":16,"lora_alpha":8)").Scale("x"), 0.5f);
  EXPECT_EQ(Parsed(R"("r":3,"lora_alpha":2.5)").Scale("x"), static_cast<float>(2.5 / 3));
  EXPECT_EQ(Parsed(R"("r":3,"lora_alpha":5,"use_rslora":true)").Scale("x"), static_cast<float>(5 / std::sqrt(3.0)));
  EXPECT_EQ(Parsed(R"("r":4.0,"lora_alpha":null,"rank_pattern":null)").Scale("x"), 2.0f);
}

TEST(LoraConfig, TheFirstPatternThatMatchesCounts) {
  const LoraConfig config = Parsed(
      R"("r":4,"lora_alpha":8,"rank_pattern":{"q_proj":16,"self_attn.q_proj":2,"^model.layers.0.mlp.up_proj":32},
         "alpha_pattern":{"layers\\.[01]\\..*":64})");
  EXPECT_EQ(config.Rank("model.layers.0.self_attn.q_proj"), 16u);
  EXPECT_EQ(config.Rank("model.layers.0.self_attn.k_proj"), 4u);
  EXPECT_EQ(config.Rank("model.layers.0.mlp.up_proj"), 32u);
  EXPECT_EQ(config.Scale("model.layers.0.self_attn.q_proj"), 4.0f);
  EXPECT_EQ(config.Scale("model.layers.7.self_attn.q_proj"), 0.5f);
}

// As re.match(rf"(.*\.)?({key})$", module) decides.
TEST(ModulePattern, MatchesAsPeftDoes) {
  EXPECT_TRUE(Matches("q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(Matches("q_proj", "q_proj"));
  EXPECT_FALSE(Matches("q_proj", "model.layers.0.self_attn.eq_proj"));
  EXPECT_FALSE(Matches("q_proj", "model.q_proj.x"));
  EXPECT_TRUE(Matches("layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(Matches("layers.0", "model.layers_0"));  // a dot is any character
  EXPECT_FALSE(Matches("layers.0", "model.layers.10"));
  EXPECT_TRUE(Matches("", "model."));
  EXPECT_TRUE(Matches("^model.x", "model.x"));
  EXPECT_FALSE(Matches("^model.x", "a.model.x"));
  EXPECT_TRUE(Matches(R"(layers\.\d+\.mlp\.(up|gate)_proj)", "model.layers.12.mlp.gate_proj"));
  EXPECT_FALSE(Matches(R"(layers\.\d+\.mlp\.(up|gate)_proj)", "model.layers.x.mlp.gate_proj"));
  EXPECT_TRUE(Matches("(?:a|b)+", "x.abba"));
  EXPECT_FALSE(Matches("[^.]+",
                       "x.y-"
                       "."));
  EXPECT_TRUE(Matches("up_proj|down_proj", "m.down_proj"));
}

TEST(ModulePattern, RefusesWhatWouldBeReadOtherwise) {
  for (const char* key : {"a{3}", "(?i)a", "(?P<x>a)", "(?=a)", "\\Aa", "(a)\\1", "a\\", "a)|(b", "[a", "*",
                          "[[:alpha:]]", "[]a]", "[^]a]"}) {
    const auto pattern = ModulePattern::Parse(key);
    ASSERT_FALSE(pattern) << key;
    EXPECT_EQ(pattern.error().code, ErrorCode::kUnsupported);
  }
  EXPECT_FALSE(ModulePattern::Parse(std::string(513, 'a') + "+"));
}

// A matcher that goes back would take 2^60 steps.
TEST(ModulePattern, ComesToAnEnd) { EXPECT_FALSE(Matches("(a+)+b", std::string(60, 'a'))); }

TEST(LoraConfig, TargetsAreNamesOrTheirEnds) {
  const LoraConfig config = Parsed(R"("target_modules":["q_proj","model.x"])");
  EXPECT_TRUE(config.IsTarget("a.q_proj"));
  EXPECT_TRUE(config.IsTarget("q_proj"));
  EXPECT_TRUE(config.IsTarget("model.x"));
  EXPECT_FALSE(config.IsTarget("a.eq_proj"));
  EXPECT_TRUE(Parsed(R"("target_modules":"all-linear")").IsTarget("anything"));
}

TEST(LoraConfig, RefusesOtherKindsByName) {
  const auto refused = [](const std::string& more) {
    return ErrorOf(R"({"peft_type":"LORA",)" + more + "}", ErrorCode::kUnsupported);
  };
  EXPECT_THAT(refused(R"("use_dora":true)"), HasSubstr("use_dora is set: this is DoRA"));
  EXPECT_THAT(refused(R"("use_dora":true)"), HasSubstr("merge_and_unload()"));
  EXPECT_THAT(refused(R"("use_qalora":true)"), HasSubstr("QALoRA"));
  EXPECT_THAT(refused(R"("alora_invocation_tokens":[1])"), HasSubstr("alora_invocation_tokens"));
  EXPECT_THAT(refused(R"("layer_replication":[[0,4]])"), HasSubstr("layer_replication"));
  EXPECT_THAT(refused(R"("target_parameters":["a"])"), HasSubstr("target_parameters"));
  EXPECT_THAT(refused(R"("trainable_token_indices":[1])"), HasSubstr("trainable_token_indices"));
  EXPECT_THAT(refused(R"("lora_bias":true)"), HasSubstr("lora_bias"));
  EXPECT_THAT(refused(R"("init_lora_weights":"pissa_niter_16")"), HasSubstr("init_lora_weights is pissa_niter_16"));
  EXPECT_THAT(refused(R"("rank_pattern":{"a{3}":1})"), HasSubstr("rank_pattern: the pattern 'a{3}' cannot be read"));
  EXPECT_THAT(ErrorOf(R"({"peft_type":"IA3"})", ErrorCode::kUnsupported), HasSubstr("peft_type is IA3"));
  Parsed(R"("use_dora":false,"layer_replication":[],"kasa_config":null,"init_lora_weights":"gaussian","bias":"all")");
}

TEST(LoraConfig, RefusesWhatMakesNoSense) {
  const auto corrupt = [](const std::string& more) {
    return ErrorOf(R"({"peft_type":"LORA",)" + more + "}", ErrorCode::kCorrupt);
  };
  EXPECT_THAT(corrupt(R"("r":0)"), HasSubstr("r is not a whole number over 0"));
  EXPECT_THAT(corrupt(R"("r":-1)"), HasSubstr("whole number"));
  EXPECT_THAT(corrupt(R"("r":"8")"), HasSubstr("whole number"));
  EXPECT_THAT(corrupt(R"("lora_alpha":"8")"), HasSubstr("lora_alpha is not a number"));
  EXPECT_THAT(corrupt(R"("use_rslora":1)"), HasSubstr("use_rslora is not true or false"));
  EXPECT_THAT(corrupt(R"("rank_pattern":[1])"), HasSubstr("rank_pattern"));
  EXPECT_THAT(corrupt(R"("rank_pattern":{"a":0})"), HasSubstr("rank_pattern of 'a' is not a whole number"));
  EXPECT_THAT(corrupt(R"("alpha_pattern":{"a":null})"), HasSubstr("alpha_pattern of 'a' is not a number"));
  EXPECT_THAT(corrupt(R"("bias":"some")"), HasSubstr("bias is not none, all or lora_only"));
  EXPECT_THAT(corrupt(R"("target_modules":[1])"), HasSubstr("target_modules"));
  EXPECT_THAT(corrupt(R"("target_modules":{})"), HasSubstr("target_modules"));
  EXPECT_THAT(corrupt(R"("base_model_name_or_path":1)"), HasSubstr("base_model_name_or_path"));
  EXPECT_THAT(ErrorOf("{}", ErrorCode::kCorrupt), HasSubstr("no peft_type"));
  EXPECT_THAT(ErrorOf("[]", ErrorCode::kCorrupt), HasSubstr("an object"));
  EXPECT_THAT(ErrorOf("{", ErrorCode::kCorrupt), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("version https://git-lfs.github.com/spec/v1\n", ErrorCode::kCorrupt), HasSubstr("LFS"));
}

}  // namespace
}  // namespace sluice::checkpoint
