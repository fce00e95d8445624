#include "infer/model_spec.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"

namespace sluice::infer {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kModels = SLUICE_SOURCE_DIR "/tests/goldens/inference/models";

const std::vector<std::string> kNames = {"gemma2",
                                         "gemma3_text",
                                         "llama_bias",
                                         "llama_gqa",
                                         "llama_rope_dynamic",
                                         "llama_rope_linear",
                                         "llama_rope_llama3",
                                         "llama_rope_yarn",
                                         "llama_tied",
                                         "llama_yi",
                                         "mistral_window",
                                         "phi3",
                                         "phi3_longrope",
                                         "qwen2",
                                         "qwen3"};

ordered_json Json(const std::string& name, const char* file = "config.json") {
  std::ifstream stream(kModels / name / file);
  return ordered_json::parse(stream);
}

Result<ModelSpec> Spec(const ordered_json& json) {
  auto config = checkpoint::ModelConfig::Parse(json.dump(), "config.json");
  EXPECT_TRUE(config) << config.error().ToString();
  return SpecOf(**config);
}

ModelSpec GoodSpec(const ordered_json& json) {
  auto spec = Spec(json);
  EXPECT_TRUE(spec) << spec.error().ToString();
  return spec ? *spec : ModelSpec{};
}

std::string ErrorOf(const ordered_json& json, ErrorCode code) {
  const auto spec = Spec(json);
  EXPECT_FALSE(spec);
  if (spec) return "";
  EXPECT_EQ(spec.error().code, code) << spec.error().ToString();
  return spec.error().ToString();
}

ordered_json With(const std::string& name, const std::vector<std::pair<const char*, ordered_json>>& changes,
                  const char* file = "config.json") {
  ordered_json json = Json(name, file);
  for (const auto& [key, value] : changes) json[key] = value;
  return json;
}

std::vector<uint64_t> Windows(const ModelSpec& spec) {
  std::vector<uint64_t> windows;
  for (const LayerSpec& layer : spec.layers) windows.push_back(layer.attention.window);
  return windows;
}

TEST(ModelSpec, BothReleasesConfigsAreOneSpec) {
  for (const std::string& name : kNames)
    EXPECT_EQ(GoodSpec(Json(name)), GoodSpec(Json(name, "config.v4.json"))) << name;
}

// The names of all steps are the names of all tensors, with shapes that fit.
TEST(ModelSpec, NamesEveryTensorOnce) {
  for (const std::string& name : kNames) {
    auto model = checkpoint::OpenCheckpoint((kModels / name).string(), {});
    ASSERT_TRUE(model) << model.error().ToString();
    const checkpoint::Catalogue& tensors = (*model)->tensors();
    const ModelSpec spec = GoodSpec(Json(name));
    std::vector<std::string> names = TensorsOutsideLayers(spec);
    for (const LayerSpec& layer : spec.layers) {
      for (std::string& one : TensorsOf(layer)) names.push_back(std::move(one));
    }
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << name;
    EXPECT_EQ(names.size(), tensors.size()) << name;
    for (const std::string& one : names) EXPECT_TRUE(tensors.Find(one)) << name << " " << one;
    const auto expect_product = [&](const ProductSpec& product) {
      if (!product) return;
      EXPECT_THAT(tensors[*tensors.Find(product.weight)].shape, ElementsAre(product.out, product.in)) << product.weight;
      if (!product.bias.empty()) {
        EXPECT_THAT(tensors[*tensors.Find(product.bias)].shape, ElementsAre(product.out)) << product.bias;
      }
    };
    for (const LayerSpec& layer : spec.layers) {
      const AttentionSpec& attention = layer.attention;
      for (const auto* one : {&attention.q, &attention.k, &attention.v, &attention.qkv, &attention.o, &layer.mlp.gate,
                              &layer.mlp.up, &layer.mlp.gate_up, &layer.mlp.down}) {
        expect_product(*one);
      }
      for (const auto* one : {&layer.input_norm, &attention.q_norm, &attention.k_norm, &layer.post_attention_norm,
                              &layer.mlp_norm, &layer.post_mlp_norm}) {
        if (*one) EXPECT_THAT(tensors[*tensors.Find(one->weight)].shape, ElementsAre(one->size));
      }
    }
    expect_product(spec.head);
  }
}

TEST(ModelSpec, Llama) {
  const ModelSpec spec = GoodSpec(Json("llama_gqa"));
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.vocab, 160u);
  EXPECT_EQ(spec.hidden, 64u);
  EXPECT_EQ(spec.embedding, "model.embed_tokens.weight");
  EXPECT_EQ(spec.embedding_scale, 1);
  EXPECT_EQ(spec.head, (ProductSpec{"lm_head.weight", "", 160, 64}));
  EXPECT_FALSE(spec.tied);
  EXPECT_EQ(spec.final_softcap, 0);
  EXPECT_EQ(spec.final_norm, (NormSpec{"model.norm.weight", 64, 1e-6f, false}));
  EXPECT_EQ(spec.ropes, std::vector<RopeSpec>{(RopeSpec{.theta = 10000, .rotary_dim = 16})});
  ASSERT_EQ(spec.layers.size(), 3u);
  const LayerSpec& layer = spec.layers[2];
  const std::string in = "model.layers.2.";
  AttentionSpec attention;
  attention.heads = 4;
  attention.kv_heads = 2;
  attention.head_dim = 16;
  attention.scale = 0.25;
  attention.q = {in + "self_attn.q_proj.weight", "", 64, 64};
  attention.k = {in + "self_attn.k_proj.weight", "", 32, 64};
  attention.v = {in + "self_attn.v_proj.weight", "", 32, 64};
  attention.o = {in + "self_attn.o_proj.weight", "", 64, 64};
  EXPECT_EQ(layer.attention, attention);
  EXPECT_EQ(layer.mlp, (MlpSpec{.activation = Activation::kSilu,
                                .ffn = 128,
                                .gate = {in + "mlp.gate_proj.weight", "", 128, 64},
                                .up = {in + "mlp.up_proj.weight", "", 128, 64},
                                .gate_up = {},
                                .down = {in + "mlp.down_proj.weight", "", 64, 128}}));
  EXPECT_EQ(layer.input_norm, (NormSpec{in + "input_layernorm.weight", 64, 1e-6f, false}));
  EXPECT_EQ(layer.mlp_norm, (NormSpec{in + "post_attention_layernorm.weight", 64, 1e-6f, false}));
  EXPECT_FALSE(layer.post_attention_norm);
  EXPECT_FALSE(layer.post_mlp_norm);
  EXPECT_THAT(TensorsOf(layer),
              ElementsAre(in + "input_layernorm.weight", in + "self_attn.q_proj.weight", in + "self_attn.k_proj.weight",
                          in + "self_attn.v_proj.weight", in + "self_attn.o_proj.weight",
                          in + "post_attention_layernorm.weight", in + "mlp.gate_proj.weight",
                          in + "mlp.up_proj.weight", in + "mlp.down_proj.weight"));
}

TEST(ModelSpec, BiasesTiesAndNorms) {
  const LayerSpec biased = GoodSpec(Json("llama_bias")).layers[1];
  EXPECT_EQ(biased.attention.o.bias, "model.layers.1.self_attn.o_proj.bias");
  EXPECT_EQ(biased.attention.v.bias, "model.layers.1.self_attn.v_proj.bias");
  EXPECT_EQ(biased.mlp.down.bias, "model.layers.1.mlp.down_proj.bias");

  const ModelSpec qwen2 = GoodSpec(Json("qwen2"));
  EXPECT_EQ(qwen2.layers[0].attention.q.bias, "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ(qwen2.layers[0].attention.o.bias, "");
  EXPECT_TRUE(qwen2.tied);
  EXPECT_EQ(qwen2.head.weight, qwen2.embedding);
  EXPECT_EQ(qwen2.head.out, 200u);

  const LayerSpec qwen3 = GoodSpec(Json("qwen3")).layers[0];
  EXPECT_EQ(qwen3.attention.q_norm, (NormSpec{"model.layers.0.self_attn.q_norm.weight", 32, 1e-6f, false}));
  EXPECT_EQ(qwen3.attention.k_norm.weight, "model.layers.0.self_attn.k_norm.weight");
  EXPECT_EQ(qwen3.attention.q.out, 128u);
  EXPECT_EQ(qwen3.attention.scale, 1 / std::sqrt(32.0f));

  const LayerSpec phi3 = GoodSpec(Json("phi3")).layers[0];
  EXPECT_EQ(phi3.attention.qkv, (ProductSpec{"model.layers.0.self_attn.qkv_proj.weight", "", 128, 64}));
  EXPECT_EQ(phi3.mlp.gate_up, (ProductSpec{"model.layers.0.mlp.gate_up_proj.weight", "", 256, 64}));
  EXPECT_FALSE(phi3.attention.q);
  EXPECT_FALSE(phi3.mlp.up);
  EXPECT_EQ(phi3.input_norm.eps, 1e-5f);
}

TEST(ModelSpec, Gemma) {
  const ModelSpec gemma2 = GoodSpec(Json("gemma2"));
  EXPECT_EQ(gemma2.embedding_scale, 8);
  EXPECT_EQ(gemma2.final_softcap, 5);
  EXPECT_TRUE(gemma2.final_norm.add_one);
  const LayerSpec& layer = gemma2.layers[1];
  EXPECT_EQ(layer.attention.softcap, 4);
  EXPECT_EQ(layer.attention.scale, static_cast<float>(1 / std::sqrt(24.0)));
  EXPECT_EQ(layer.mlp.activation, Activation::kGeluTanh);
  EXPECT_EQ(layer.input_norm.weight, "model.layers.1.input_layernorm.weight");
  EXPECT_EQ(layer.post_attention_norm.weight, "model.layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(layer.mlp_norm.weight, "model.layers.1.pre_feedforward_layernorm.weight");
  EXPECT_EQ(layer.post_mlp_norm, (NormSpec{"model.layers.1.post_feedforward_layernorm.weight", 64, 1e-6f, true}));

  const ModelSpec gemma3 = GoodSpec(Json("gemma3_text"));
  EXPECT_EQ(gemma3.final_softcap, 0);
  EXPECT_TRUE(gemma3.layers[0].attention.q_norm.add_one);
  ASSERT_EQ(gemma3.ropes.size(), 2u);
  EXPECT_EQ(gemma3.ropes[0], (RopeSpec{.type = RopeType::kLinear, .theta = 1e6, .rotary_dim = 32, .factor = 8}));
  EXPECT_EQ(gemma3.ropes[1], (RopeSpec{.theta = 1e4, .rotary_dim = 32}));
  EXPECT_EQ(gemma3.layers[0].attention.rope, 1u);
  EXPECT_EQ(gemma3.layers[2].attention.rope, 0u);
}

TEST(ModelSpec, WindowsOfEachArchitecture) {
  EXPECT_THAT(Windows(GoodSpec(Json("mistral_window"))), ElementsAre(16, 16));
  ordered_json mistral = Json("mistral_window");
  mistral["sliding_window"] = nullptr;
  EXPECT_THAT(Windows(GoodSpec(mistral)), ElementsAre(0, 0));
  mistral.erase("sliding_window");
  EXPECT_THAT(Windows(GoodSpec(mistral)), ElementsAre(4096, 4096));

  EXPECT_THAT(Windows(GoodSpec(Json("gemma2"))), ElementsAre(12, 0, 12));
  EXPECT_THAT(Windows(GoodSpec(Json("gemma3_text"))), ElementsAre(12, 12, 0));
  EXPECT_THAT(Windows(GoodSpec(With("gemma2", {{"sliding_window", nullptr}}))), ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(GoodSpec(With("phi3", {{"sliding_window", 2047}}))), ElementsAre(2047, 2047));
  EXPECT_THAT(Windows(GoodSpec(Json("phi3"))), ElementsAre(0, 0));
  EXPECT_THAT(Windows(GoodSpec(Json("llama_gqa"))), ElementsAre(0, 0, 0));
  EXPECT_THAT(Windows(GoodSpec(With("llama_gqa", {{"sliding_window", 4}}))), ElementsAre(0, 0, 0));  // llama has none

  for (const char* qwen : {"qwen2", "qwen3"}) {
    ordered_json json = Json(qwen, "config.v4.json");
    json["sliding_window"] = 32;
    json["max_window_layers"] = 1;
    EXPECT_THAT(Windows(GoodSpec(json)), ElementsAre(0, 0)) << qwen;
    json["use_sliding_window"] = true;
    EXPECT_THAT(Windows(GoodSpec(json)), ElementsAre(0, 32)) << qwen;
    json["layer_types"] = {"sliding_attention", "full_attention"};
    EXPECT_THAT(Windows(GoodSpec(json)), ElementsAre(32, 0)) << qwen;
  }
}

TEST(ModelSpec, RopesOfEachKind) {
  const auto rope = [](const ordered_json& json) { return GoodSpec(json).ropes.at(0); };
  EXPECT_EQ(rope(Json("llama_rope_linear")),
            (RopeSpec{.type = RopeType::kLinear, .theta = 10000, .rotary_dim = 16, .factor = 4}));
  EXPECT_EQ(rope(Json("llama_rope_dynamic")),
            (RopeSpec{.type = RopeType::kDynamic, .theta = 10000, .rotary_dim = 16, .max_positions = 32, .factor = 2}));
  const RopeSpec yarn = rope(Json("llama_rope_yarn"));
  EXPECT_EQ(yarn.type, RopeType::kYarn);
  EXPECT_EQ(yarn.original_max_positions, 32u);
  EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.1 * std::log(4.0) + 1);
  const RopeSpec llama3 = rope(Json("llama_rope_llama3"));
  EXPECT_EQ(llama3.type, RopeType::kLlama3);
  EXPECT_EQ(llama3.factor, 8);
  EXPECT_EQ(llama3.high_freq_factor, 4);
  const RopeSpec longrope = rope(Json("phi3_longrope"));
  EXPECT_EQ(longrope.type, RopeType::kLongrope);
  EXPECT_DOUBLE_EQ(longrope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(32.0)));
  EXPECT_EQ(longrope.long_factor.size(), 8u);

  const auto changed = [&](const char* name, const std::vector<std::pair<const char*, ordered_json>>& members) {
    ordered_json json = Json(name);
    for (const auto& [key, value] : members) json["rope_parameters"][key] = value;
    return rope(json);
  };
  EXPECT_EQ(changed("llama_rope_yarn", {{"attention_factor", 1.5}}).attention_factor, 1.5);
  EXPECT_DOUBLE_EQ(changed("llama_rope_yarn", {{"mscale", 0.5}, {"mscale_all_dim", 2.0}}).attention_factor,
                   (0.05 * std::log(4.0) + 1) / (0.2 * std::log(4.0) + 1));
  EXPECT_EQ(changed("llama_rope_yarn", {{"factor", nullptr}}).factor, 4);  // 128 / 32
  EXPECT_FALSE(changed("llama_rope_yarn", {{"truncate", false}}).truncate);
  EXPECT_EQ(changed("llama_rope_llama3", {{"original_max_position_embeddings", nullptr}}).original_max_positions, 128u);
  EXPECT_EQ(changed("phi3", {{"partial_rotary_factor", 0.75}}).rotary_dim, 12u);
  EXPECT_EQ(rope(With("phi3", {{"partial_rotary_factor", 0.5}}, "config.v4.json")).rotary_dim, 8u);
  EXPECT_EQ(rope(With("phi3_longrope", {{"original_max_position_embeddings", 64}})).original_max_positions, 64u);
}

TEST(ModelSpec, UnknownIsNamedWithWhatWouldBeNeeded) {
  const std::string known = ErrorOf({{"architectures", {"GPT2Model"}}}, ErrorCode::kUnsupported);
  EXPECT_THAT(known,
              HasSubstr("GPT2Model: sluice cannot run this architecture yet: it would need layer norms with biases"));
  const std::string error = ErrorOf({{"architectures", {"RwkvForCausalLM"}}}, ErrorCode::kUnsupported);
  EXPECT_THAT(error, HasSubstr("RwkvForCausalLM"));
  EXPECT_THAT(error, HasSubstr("Gemma2ForCausalLM, Gemma3ForCausalLM, LlamaForCausalLM, MistralForCausalLM"));
  EXPECT_THAT(error, HasSubstr("src/checkpoint/architectures"));
  EXPECT_THAT(ErrorOf(ordered_json::object(), ErrorCode::kUnsupported), HasSubstr("neither architectures nor"));
  EXPECT_THAT(ErrorOf(With("llama_gqa", {{"model_type", "mistral"}}), ErrorCode::kCorrupt),
              HasSubstr("LlamaForCausalLM, whose model_type is \"llama\", but model_type is \"mistral\""));
  EXPECT_THAT(ErrorOf(With("llama_gqa", {{"hidden_act", "gelu"}}), ErrorCode::kUnsupported),
              HasSubstr("hidden_act is \"gelu\""));
  EXPECT_THAT(ErrorOf(With("gemma2", {{"hidden_activation", "relu"}}), ErrorCode::kUnsupported),
              HasSubstr("hidden_activation is \"relu\""));
  EXPECT_THAT(ErrorOf(With("llama_gqa", {{"quantization_config", {{"bits", 4}}}}), ErrorCode::kUnsupported),
              HasSubstr("quantization_config"));
  EXPECT_THAT(ErrorOf(With("gemma3_text", {{"use_bidirectional_attention", true}}), ErrorCode::kUnsupported),
              HasSubstr("use_bidirectional_attention is true"));
  EXPECT_THAT(
      ErrorOf(With("gemma2", {{"layer_types", {"full_attention", "x", "full_attention"}}}), ErrorCode::kUnsupported),
      HasSubstr("layer_types[1] is \"x\""));
}

TEST(ModelSpec, ValuesThatMakeNoSense) {
  const auto corrupt = [](const std::string& name, const char* key, ordered_json value) {
    return ErrorOf(With(name, {{key, std::move(value)}}), ErrorCode::kCorrupt);
  };
  EXPECT_EQ(corrupt("llama_gqa", "num_key_value_heads", 3),
            "config.json: num_key_value_heads is 3: it must divide num_attention_heads, which is 4");
  EXPECT_EQ(corrupt("llama_gqa", "head_dim", 0), "config.json: head_dim is 0: a whole number from 1 to 512 is wanted");
  EXPECT_THAT(corrupt("llama_gqa", "num_attention_heads", 0), HasSubstr("num_attention_heads is 0"));
  EXPECT_THAT(corrupt("llama_gqa", "hidden_size", 1e15), HasSubstr("hidden_size is"));
  EXPECT_THAT(corrupt("llama_gqa", "hidden_size", -64), HasSubstr("hidden_size is -64"));
  EXPECT_THAT(corrupt("llama_gqa", "vocab_size", "160"), HasSubstr("vocab_size is \"160\""));
  EXPECT_THAT(corrupt("llama_gqa", "num_hidden_layers", 100000000),
              HasSubstr("num_hidden_layers is 100000000: more than 4,096 layers"));
  EXPECT_THAT(corrupt("gemma2", "num_hidden_layers", 100000000), HasSubstr("num_hidden_layers is 100000000"));
  EXPECT_THAT(corrupt("llama_gqa", "rms_norm_eps", 0), HasSubstr("rms_norm_eps is 0: a number above 0"));
  EXPECT_THAT(corrupt("llama_gqa", "rms_norm_eps", nullptr), HasSubstr("rms_norm_eps is missing"));
  EXPECT_THAT(corrupt("llama_gqa", "tie_word_embeddings", 1), HasSubstr("tie_word_embeddings is 1"));
  EXPECT_THAT(corrupt("llama_gqa", "hidden_act", 1), HasSubstr("hidden_act is 1"));
  EXPECT_THAT(corrupt("llama_gqa", "head_dim", 15), HasSubstr("head_dim is 15: an even number is wanted"));
  EXPECT_THAT(corrupt("mistral_window", "sliding_window", 0), HasSubstr("sliding_window is 0"));
  EXPECT_THAT(corrupt("gemma2", "attn_logit_softcapping", 0.0), HasSubstr("attn_logit_softcapping is 0"));
  EXPECT_THAT(corrupt("gemma2", "final_logit_softcapping", "x"), HasSubstr("final_logit_softcapping is \"x\""));
  EXPECT_THAT(corrupt("gemma2", "query_pre_attn_scalar", -1), HasSubstr("query_pre_attn_scalar is -1"));
  EXPECT_THAT(corrupt("gemma2", "layer_types", {"full_attention"}),
              HasSubstr("layer_types has 1 entries, but num_hidden_layers is 3"));
  EXPECT_THAT(corrupt("gemma2", "layer_types", "full_attention"), HasSubstr("layer_types is no list"));
}

TEST(ModelSpec, RopesThatMakeNoSense) {
  const auto error = [](const char* name, const char* key, ordered_json value, ErrorCode code = ErrorCode::kCorrupt) {
    ordered_json json = Json(name);
    json["rope_parameters"][key] = std::move(value);
    return ErrorOf(json, code);
  };
  EXPECT_EQ(
      error("llama_gqa", "rope_type", "mrope", ErrorCode::kUnsupported),
      "config.json: rope_parameters.rope_type is \"mrope\": supported are default, linear, dynamic, yarn, llama3, "
      "longrope; others not yet");
  EXPECT_THAT(error("llama_gqa", "rope_theta", 0), HasSubstr("rope_parameters.rope_theta is 0"));
  EXPECT_THAT(error("llama_gqa", "partial_rotary_factor", 0.5, ErrorCode::kUnsupported),
              HasSubstr("rope_parameters.partial_rotary_factor is 0.5"));
  EXPECT_THAT(error("phi3", "partial_rotary_factor", 2), HasSubstr("partial_rotary_factor is 2"));
  EXPECT_THAT(error("llama_rope_linear", "factor", nullptr), HasSubstr("rope_parameters.factor is missing"));
  EXPECT_THAT(error("llama_rope_dynamic", "factor", 0.5), HasSubstr("rope_parameters.factor is 0.5"));
  EXPECT_THAT(error("llama_rope_yarn", "original_max_position_embeddings", 0),
              HasSubstr("rope_parameters.original_max_position_embeddings is 0"));
  EXPECT_THAT(error("llama_rope_llama3", "high_freq_factor", 1), HasSubstr("high_freq_factor is 1"));
  EXPECT_THAT(error("phi3_longrope", "long_factor", {1, 2, 3}), HasSubstr("long_factor is [1,2,3]: 8 numbers above 0"));
  EXPECT_THAT(error("phi3_longrope", "short_factor", {1, 2, 3, 4, 5, 6, 7, 0}), HasSubstr("short_factor is"));
  EXPECT_THAT(error("gemma3_text", "sliding_attention", {{"rope_type", "default"}, {"rope_theta", -1}}),
              HasSubstr("rope_parameters.sliding_attention.rope_theta is -1"));
}

}  // namespace
}  // namespace sluice::infer
