#include "checkpoint/model_config.h"

#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/canonical_config.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const ModelConfig> Config(std::string_view text) {
  auto config = ModelConfig::Parse(text, "config.json");
  EXPECT_TRUE(config) << config.error().ToString();
  return config ? *config : nullptr;
}

std::string ErrorOf(std::string_view text) {
  const auto config = ModelConfig::Parse(text, "config.json");
  EXPECT_FALSE(config);
  if (config) return "";
  EXPECT_EQ(config.error().code, ErrorCode::kCorrupt);
  return config.error().ToString();
}

// What 01-ai/Yi-34B publishes, but for the tokenizer's keys.
constexpr const char* kYi34B = R"({
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 7168,
  "initializer_range": 0.02, "intermediate_size": 20480, "max_position_embeddings": 200000, "model_type": "llama",
  "num_attention_heads": 56, "num_hidden_layers": 60, "num_key_value_heads": 8, "pad_token_id": 0, "rms_norm_eps": 1e-05,
  "rope_theta": 5000000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.34.0",
  "use_cache": true, "vocab_size": 64000})";

TEST(ModelConfig, CountsYi34B) {
  EXPECT_EQ(Config(kYi34B)->PredictedParameters(), 34388917248u);
  EXPECT_EQ(Config(kYi34B)->GetInt("head_dim"), 128u);
  EXPECT_EQ(Config(kYi34B)->architecture(), "LlamaForCausalLM");
}

TEST(ModelConfig, CountsWhatTheHelperWrites) {
  for (const bool tied : {false, true}) {
    const tests::TinyLlama options{
        .layers = 3, .hidden = 48, .heads = 6, .kv_heads = 3, .ffn = 100, .vocab = 77, .tied = tied};
    uint64_t stored = 0;
    for (const auto& tensor : tests::TinyLlamaTensors(options)) stored += tensor.bytes.size() / 2;
    EXPECT_EQ(Config(tests::TinyLlamaConfig(options))->PredictedParameters(), stored);
  }
}

TEST(ModelConfig, BiasesCount) {
  // One layer: hidden 8, 2 heads of 4, 1 key/value head, ffn 16, vocabulary 10, untied.
  const std::string base =
      R"("model_type":"llama","hidden_size":8,"num_attention_heads":2,"num_key_value_heads":1,"intermediate_size":16,)"
      R"("vocab_size":10,"num_hidden_layers":1)";
  const uint64_t plain = 80 + 80 + 8 + (8 + 8) + (64 + 32 + 32 + 64) + 3 * 128;
  EXPECT_EQ(Config("{" + base + "}")->PredictedParameters(), plain);
  EXPECT_EQ(Config("{" + base + R"(,"attention_bias":true})")->PredictedParameters(), plain + 8 + 4 + 4 + 8);
  EXPECT_EQ(Config("{" + base + R"(,"mlp_bias":true})")->PredictedParameters(), plain + 16 + 16 + 8);
  EXPECT_EQ(Config("{" + base + R"(,"head_dim":8})")->PredictedParameters(), plain + 192);
}

TEST(ModelConfig, PredictsNothingWhereItCannotKnow) {
  EXPECT_EQ(Config(R"({"architectures":["RwkvForCausalLM"],"model_type":"rwkv"})")->PredictedParameters(),
            std::nullopt);
  EXPECT_EQ(
      Config(R"({"architectures":["LlamaForSequenceClassification"],"model_type":"llama"})")->PredictedParameters(),
      std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"llama","vocab_size":18446744073709551615})")->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"llama","num_hidden_layers":18446744073709551615})")->PredictedParameters(),
            std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"llama","num_attention_heads":0})")->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"llama","hidden_size":"8"})")->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config(R"({"model_type":"llama","hidden_size":-8})")->PredictedParameters(), std::nullopt);
  EXPECT_EQ(Config("{}")->PredictedParameters(), std::nullopt);
}

TEST(ModelConfig, TypedAccess) {
  const auto config = Config(
      R"({"model_type":"llama","hidden_size":4096.0,"num_key_value_heads":null,"rope_parameters":{"rope_theta":500000.0},"dtype":"float16","x":[1]})");
  EXPECT_EQ(config->GetInt("hidden_size"), 4096u);
  EXPECT_EQ(config->GetInt("num_key_value_heads"), 32u);
  EXPECT_EQ(config->GetNumber("rms_norm_eps"), 1e-6);
  EXPECT_EQ(config->GetNumber("rope_theta"), 500000.0);
  EXPECT_EQ(config->GetString("torch_dtype"), "float16");
  EXPECT_EQ(config->GetString("hidden_act"), "silu");
  EXPECT_EQ(config->GetInt("x"), std::nullopt);
  EXPECT_EQ(config->GetInt("absent"), std::nullopt);
  EXPECT_EQ(config->architecture(), "llama");
  EXPECT_FALSE(config->TiedEmbeddings());
  EXPECT_TRUE(Config(R"({"model_type":"gemma"})")->TiedEmbeddings());
  EXPECT_TRUE(Config(R"({"model_type":"llama","tie_word_embeddings":true})")->TiedEmbeddings());
  EXPECT_EQ(Config(R"({"model_type":"llama"})")->GetNumber("rope_theta"), 10000.0);
  EXPECT_EQ(Config(R"({"rope_parameters":{"full_attention":{"rope_theta":7}}})")->GetNumber("rope_theta"), 7.0);
}

TEST(ModelConfig, KeepsWhatItDoesNotKnow) {
  const std::string text =
      "{\n  \"zeta\": [\n    1,\n    2.5\n  ],\n  \"alpha\": {\n    \"x\": null\n  },\n  \"name\": \"\u00e9\"\n}\n";
  EXPECT_EQ(Config(text)->Pretty(), text);
}

TEST(ModelConfig, SyntaxErrorsSayWhere) {
  EXPECT_EQ(ErrorOf("{\n  \"a\": 1,\n  \"a\": 2\n}"),
            "config.json: line 3, column 3: the key \"a\" stands here a second time");
  EXPECT_THAT(ErrorOf("{\n  \"a\": 01\n}"), HasSubstr("line 2, column 8"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("a config is an object"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("line 1, column 1"));
  EXPECT_THAT(ErrorOf("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 654\n"),
              HasSubstr("git lfs pull"));
}

TEST(ModelConfig, ContradictionsAreRefused) {
  EXPECT_EQ(ErrorOf(R"({"torch_dtype":"float16","dtype":"bfloat16"})"),
            "config.json: torch_dtype is float16, but dtype is bfloat16: they mean the same thing; remove the one that "
            "is wrong");
  EXPECT_THAT(ErrorOf(R"({"rope_theta":10000,"rope_parameters":{"rope_theta":500000.0,"rope_type":"default"}})"),
              HasSubstr("rope_theta is 10000, but rope_parameters.rope_theta is 500000.0"));
  EXPECT_THAT(
      ErrorOf(
          R"({"rope_scaling":{"type":"linear","factor":2.0},"rope_parameters":{"rope_type":"linear","factor":4.0}})"),
      HasSubstr("rope_scaling.factor is 2.0, but rope_parameters.factor is 4.0"));
  EXPECT_THAT(
      ErrorOf(R"({"rope_scaling":{"type":"linear","factor":2.0},"rope_parameters":{"rope_type":"yarn","factor":2.0}})"),
      HasSubstr("rope_scaling.rope_type is \"linear\", but rope_parameters.rope_type is \"yarn\""));
  EXPECT_THAT(ErrorOf(R"({"rope_scaling":{"type":"linear","rope_type":"yarn"}})"),
              HasSubstr("rope_scaling.type is \"linear\", but rope_scaling.rope_type is \"yarn\""));
  EXPECT_THAT(ErrorOf(R"({"rope_local_base_freq":10000,"rope_parameters":{"sliding_attention":{"rope_theta":20000}}})"),
              HasSubstr("rope_local_base_freq is 10000"));
  EXPECT_THAT(ErrorOf(R"({"text_config":{"rope_theta":1,"rope_parameters":{"rope_theta":2}}})"),
              HasSubstr("rope_theta is 1"));
  EXPECT_THAT(ErrorOf(R"({"rope_theta":{"rope_theta":2}})"), HasSubstr("rope_theta is object, not a number"));
  EXPECT_THAT(ErrorOf(R"({"rope_scaling":"linear"})"), HasSubstr("rope_scaling is string, not an object"));
  EXPECT_THAT(ErrorOf(R"({"rope_parameters":[]})"), HasSubstr("rope_parameters is array, not an object"));
  // Both versions side by side, agreeing, are fine; so is a theta beside the rest.
  EXPECT_TRUE(Config(R"({"torch_dtype":"torch.bfloat16","dtype":"bfloat16","rope_theta":500000,"rope_scaling":null,)"
                     R"("rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3","factor":8.0}})"));
}

// The expected text was written by Python's json as docs/formats/digest.md has it.
TEST(CanonicalConfig, TextIsPythons) {
  const auto config = Config(
      R"json({"b":[1e-05,1e-5,0.00001,0.0001,0.1,5000000,5000000.0,-0.0,-0,1e16,1e22,1.5e300,1e-100,123456789.125,0.30000000000000004,1e23,18446744073709551615,18446744073709551616,-9223372036854775809,1000000000000000019884624838656,2.2250738585072014e-308,5e-324,9007199254740993.0,0.00012345,99999.99999999999,1e-4,9.999e-5],"\u00e9\u0001\t\"/":"\ud83d\ude00\u007f\b\f\n\r\\","a":{"z":null,"y":true,"A":{}},"":[]})json");
  EXPECT_EQ(
      CanonicalJson(config->json()),
      R"json({"":[],"a":{"A":{},"y":true,"z":null},"b":[1e-05,1e-05,1e-05,0.0001,0.1,5000000,5000000,0,0,10000000000000000,10000000000000000000000,1500000000000000078757140382806630373056702871662238732373781173267703686983362293679557062620671796065556665749325817265413784853040645863467188277180060474272580801389863705606745350692182135089053429852456199917621678558451461320111979114170213741868888183230085264257173504208294580298189100810240,1e-100,123456789.125,0.30000000000000004,99999999999999991611392,18446744073709551615,18446744073709551616,-9223372036854775808,1000000000000000019884624838656,2.2250738585072014e-308,5e-324,9007199254740992,0.00012345,99999.99999999999,0.0001,9.999e-05],"é\u0001\t\"/":"😀\b\f\n\r\\"})json");
}

TEST(CanonicalConfig, Yi34B) {
  EXPECT_EQ(
      Config(kYi34B)->Canonical(),
      R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":1,"eos_token_id":2,"head_dim":128,)"
      R"("hidden_act":"silu","hidden_size":7168,"intermediate_size":20480,"max_position_embeddings":200000,"mlp_bias":false,)"
      R"("model_type":"llama","num_attention_heads":56,"num_hidden_layers":60,"num_key_value_heads":8,"pad_token_id":0,)"
      R"("rms_norm_eps":1e-05,"rope_parameters":{"rope_theta":5000000,"rope_type":"default"},"tie_word_embeddings":false,)"
      R"("vocab_size":64000})");
}

TEST(CanonicalConfig, WhatMeansTheSameIsTheSame) {
  const std::string base = R"("model_type":"llama","vocab_size":100)";
  const auto canonical = [&](const std::string& more) { return Config("{" + base + more + "}")->Canonical(); };
  const std::string plain = canonical("");
  for (const char* same :
       {R"(,"rope_theta":10000)", R"(,"rope_theta":10000.0,"rope_scaling":null)",
        R"(,"rope_scaling":{"rope_type":"default"})", R"(,"rope_parameters":{"rope_theta":1e4})",
        R"(,"torch_dtype":"float16")", R"(,"dtype":"float32","use_cache":false)", R"(,"num_key_value_heads":32)",
        R"(,"num_key_value_heads":null,"head_dim":null)", R"(,"head_dim":128)", R"(,"pad_token_id":null)",
        R"(,"rms_norm_eps":0.000001)", R"(,"attention_dropout":0.1,"initializer_range":0.01)",
        R"(,"_name_or_path":"x","transformers_version":"5.0.0","tie_word_embeddings":false)"}) {
    EXPECT_EQ(canonical(same), plain) << same;
  }
  for (const char* other :
       {R"(,"rope_theta":10001)", R"(,"rope_scaling":{"type":"linear","factor":2})", R"(,"rms_norm_eps":1e-5)",
        R"(,"num_key_value_heads":8)", R"(,"pad_token_id":0)", R"(,"bos_token_id":null)",
        R"(,"tie_word_embeddings":true)", R"(,"architectures":["LlamaForCausalLM"])", R"(,"something":0)"}) {
    EXPECT_NE(canonical(other), plain) << other;
  }
  EXPECT_EQ(canonical(R"(,"rope_theta":5e5,"rope_scaling":{"type":"llama3","factor":8.0})"),
            canonical(R"(,"rope_parameters":{"factor":8,"rope_type":"llama3","rope_theta":500000})"));
  EXPECT_EQ(canonical(R"(,"rope_theta":5e5,"rope_parameters":{"factor":8,"rope_type":"llama3"})"),
            canonical(R"(,"rope_parameters":{"factor":8,"rope_type":"llama3","rope_theta":500000})"));
}

TEST(CanonicalConfig, OneRopeForEachLayerType) {
  const std::string v4 =
      Config(
          R"({"model_type":"gemma9_text","rope_theta":1000000.0,"rope_local_base_freq":10000.0,"rope_scaling":{"rope_type":"linear","factor":8.0}})")
          ->Canonical();
  const std::string v5 =
      Config(
          R"({"model_type":"gemma9_text","rope_parameters":{"full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":1000000.0},)"
          R"("sliding_attention":{"rope_type":"default","rope_theta":10000.0}}})")
          ->Canonical();
  EXPECT_EQ(v4, v5);
  EXPECT_EQ(
      v4,
      R"({"model_type":"gemma9_text","rope_parameters":{"full_attention":{"factor":8,"rope_theta":1000000,"rope_type":"linear"},)"
      R"("sliding_attention":{"rope_theta":10000,"rope_type":"default"}}})");
  const std::string mixed =
      Config(
          R"({"model_type":"gemma9_text","rope_theta":1e6,"rope_local_base_freq":10000.0,"rope_parameters":{"rope_type":"linear","factor":8.0}})")
          ->Canonical();
  EXPECT_EQ(mixed, v4);
}

TEST(CanonicalConfig, NestedTextConfig) {
  EXPECT_EQ(
      Config(R"({"model_type":"x","text_config":{"torch_dtype":"float16","rope_theta":2.5,"y":1.0}})")->Canonical(),
      R"({"model_type":"x","text_config":{"rope_parameters":{"rope_theta":2.5,"rope_type":"default"},"y":1}})");
}

// A config made by code, of a GGUF say, may hold anything.
TEST(CanonicalConfig, NeverFails) {
  nlohmann::ordered_json json = {{"a", INFINITY},   {"b", -INFINITY},       {"c", NAN},          {"architectures", 3},
                                 {"model_type", 4}, {"rope_parameters", 5}, {"text_config", "x"}};
  const auto config = ModelConfig::FromJson(json);
  EXPECT_EQ(config->Canonical(),
            R"({"a":Infinity,"architectures":3,"b":-Infinity,"c":NaN,"model_type":4,"text_config":"x"})");
  EXPECT_EQ(config->architecture(), "");
  EXPECT_EQ(config->PredictedParameters(), std::nullopt);
}

TEST(Architecture, ComparesConfigWithTensors) {
  const tests::TinyLlama options{.layers = 2, .tied = false};
  const auto problems_of = [&](const std::string& config, auto change) {
    Catalogue catalogue;
    std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(options);
    change(&tensors);
    for (const auto& tensor : tensors) catalogue.Add(tensor.name, quant::BF16(), tensor.shape, tensor.bytes.size() / 2);
    catalogue.Sort();
    std::vector<Problem> problems;
    CompareWithConfig(*Config(config), catalogue, "dir", &problems);
    return problems;
  };
  const auto nothing = [](auto*) {};
  EXPECT_TRUE(problems_of(tests::TinyLlamaConfig(options), nothing).empty());

  auto problems = problems_of(tests::TinyLlamaConfig(options), [](auto* tensors) {
    tensors->erase(tensors->begin() + 1);
    tensors->back().shape = {64, 96};
    tensors->push_back({"extra", "BF16", {1}, {0, 0}});
    tensors->push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "BF16", {1}, {0, 0}});
  });
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].severity, Problem::Severity::kError);
  EXPECT_EQ(problems[0].tensor, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_THAT(problems[0].message, HasSubstr("1 tensors that config.json predicts are missing"));
  EXPECT_EQ(problems[1].tensor, "lm_head.weight");
  EXPECT_THAT(problems[1].message, HasSubstr("lm_head.weight has [64, 96], config.json predicts [96, 64]"));
  EXPECT_EQ(problems[2].tensor, "extra");
  EXPECT_EQ(problems[2].severity, Problem::Severity::kWarning);

  // Tied: absent is a note, present is nothing.
  tests::TinyLlama tied = options;
  tied.tied = true;
  EXPECT_TRUE(problems_of(tests::TinyLlamaConfig(tied), nothing).empty());
  problems = problems_of(tests::TinyLlamaConfig(tied), [](auto* tensors) { tensors->pop_back(); });
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].severity, Problem::Severity::kNote);
  EXPECT_THAT(problems[0].message, HasSubstr("tied"));
  problems = problems_of(tests::TinyLlamaConfig(options), [](auto* tensors) { tensors->pop_back(); });
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].severity, Problem::Severity::kError);

  // A config that asks for more than the world holds is answered at once.
  EXPECT_THAT(
      problems_of(R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":1000000000000})", nothing)[0].message,
      HasSubstr("1,000,000,000,000 layers"));
  EXPECT_TRUE(problems_of(R"({"architectures":["RwkvForCausalLM"]})", nothing).empty());
  EXPECT_TRUE(problems_of(R"({"architectures":["LlamaForCausalLM"],"quantization_config":{}})", nothing).empty());
}

}  // namespace
}  // namespace sluice::checkpoint
