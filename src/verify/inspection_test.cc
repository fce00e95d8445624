#include "verify/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

ModelShape ShapeOf(const std::string& config) {
  const auto parsed = checkpoint::ModelConfig::Parse(config, "config.json");
  EXPECT_TRUE(parsed);
  return ShapeOfModel(**parsed);
}

// Yi-34B: 60 layers of 8 key/value heads of 128.
TEST(ModelShapeTest, KeysAndValuesOfYi34B) {
  const ModelShape shape = ShapeOf(
      R"({"model_type":"llama","hidden_size":7168,"num_hidden_layers":60,"num_attention_heads":56,)"
      R"("num_key_value_heads":8,"intermediate_size":20480,"vocab_size":64000,"max_position_embeddings":200000})");
  EXPECT_EQ(shape.head_dim, 128u);
  EXPECT_EQ(shape.kv_bytes_per_token, 60u * 8 * 128 * 2 * 2);
  EXPECT_EQ(shape.context, 200000u);
  EXPECT_FALSE(shape.window);
}

TEST(ModelShapeTest, WindowsAreTheCanonicalConfigs) {
  const ModelShape gemma = ShapeOf(R"({"model_type":"gemma3_text","num_hidden_layers":12,"sliding_window":512})");
  EXPECT_EQ(gemma.window, 512u);
  EXPECT_EQ(gemma.sliding_layers, 10u);  // every sixth sees all
  const ModelShape mistral = ShapeOf(R"({"model_type":"mistral","num_hidden_layers":7,"sliding_window":4096})");
  EXPECT_EQ(mistral.sliding_layers, 7u);
  EXPECT_FALSE(ShapeOf(R"({"model_type":"mistral","sliding_window":null})").window);
  EXPECT_FALSE(ShapeOf(R"({"model_type":"qwen2","sliding_window":4096,"use_sliding_window":false})").window);
}

TEST(ModelShapeTest, OfArchitecturesThatDoNotRun) {
  const ModelShape gpt2 = ShapeOf(R"({"model_type":"gpt2","n_layer":6})");
  EXPECT_EQ(gpt2.layers, 6u);
  EXPECT_EQ(gpt2.ffn, 3072u);
  EXPECT_EQ(gpt2.context, 1024u);
  EXPECT_EQ(gpt2.kv_bytes_per_token, 6u * 768 * 2 * 2);
  const ModelShape mixtral = ShapeOf(R"({"model_type":"mixtral","sliding_window":4096})");
  EXPECT_EQ(mixtral.experts, 8u);
  EXPECT_EQ(mixtral.experts_per_token, 2u);
  EXPECT_EQ(mixtral.kv_bytes_per_token, 32u * 8 * 128 * 2 * 2);
  EXPECT_EQ(mixtral.sliding_layers, 32u);
  const ModelShape falcon = ShapeOf(R"({"model_type":"falcon"})");
  EXPECT_EQ(falcon.kv_heads, 1u);
  EXPECT_EQ(falcon.kv_bytes_per_token, 32u * 64 * 2 * 2);
  EXPECT_EQ(ShapeOf(R"({"model_type":"cohere2","num_hidden_layers":8})").sliding_layers, 6u);
  EXPECT_EQ(ShapeOf(R"({"model_type":"mamba"})").kv_bytes_per_token, 0u);
  EXPECT_EQ(ShapeOf(R"({"model_type":"bert"})").kv_bytes_per_token, 0u);
}

TEST(ModelShapeTest, OfArchitecturesThatAreNotKnown) {
  const ModelShape gpt2 = ShapeOf(R"({"model_type":"gptj","n_layer":12,"n_head":12,"n_embd":768,"n_positions":1024})");
  EXPECT_EQ(gpt2.kv_bytes_per_token, 12u * 768 * 2 * 2);
  EXPECT_EQ(gpt2.context, 1024u);
  const ModelShape latent = ShapeOf(
      R"({"model_type":"deepseek_v3","num_hidden_layers":61,"num_attention_heads":128,"num_key_value_heads":128,)"
      R"("hidden_size":7168,"kv_lora_rank":512,"n_routed_experts":256,"num_experts_per_tok":8})");
  EXPECT_FALSE(latent.kv_bytes_per_token);
  EXPECT_EQ(latent.experts, 256u);
  EXPECT_EQ(latent.experts_per_token, 8u);
  EXPECT_FALSE(ShapeOf("{}").kv_bytes_per_token);
  // Sizes that do not fit are not wrapped around.
  EXPECT_FALSE(ShapeOf(R"({"model_type":"x","num_hidden_layers":4294967296,"num_attention_heads":4294967296,)"
                       R"("head_dim":4294967296})")
                   .kv_bytes_per_token);
}

TEST(ModelPartsTest, ByTheStepsOfTheArchitecture) {
  const ModelParts parts(checkpoint::ArchitectureByName("Gemma2ForCausalLM"));
  EXPECT_EQ(parts.Of("model.embed_tokens.weight"), Part::kEmbedding);
  EXPECT_EQ(parts.Of("model.layers.17.self_attn.q_proj.weight"), Part::kAttention);
  EXPECT_EQ(parts.Of("model.layers.0.pre_feedforward_layernorm.weight"), Part::kNorms);
  EXPECT_EQ(parts.Of("model.layers.0.mlp.down_proj.weight"), Part::kMlp);
  // What the architecture does not have, by its name.
  EXPECT_EQ(parts.Of("model.layers.0.self_attn.rotary_emb.inv_freq"), Part::kOther);
  EXPECT_EQ(parts.Of("model.layers.0.self_attn.q_proj.weight_scale_inv"), Part::kAttention);
}

TEST(ModelPartsTest, ByNames) {
  const ModelParts parts(nullptr);
  for (const auto& [name, part] : std::initializer_list<std::pair<const char*, Part>>{
           {"model.layers.0.mlp.experts.11.gate_proj.weight", Part::kExperts},
           {"model.layers.0.mlp.shared_experts.up_proj.weight", Part::kExperts},
           {"model.layers.0.mlp.gate.weight", Part::kExperts},
           {"model.layers.0.block_sparse_moe.gate.weight", Part::kExperts},
           {"model.layers.0.mlp.gate_proj.weight", Part::kMlp},
           {"model.layers.0.self_attn.q_norm.weight", Part::kNorms},
           {"transformer.h.1.ln_2.bias", Part::kNorms},
           {"model.layers.3.ln1.weight", Part::kNorms},
           {"transformer.wte.weight", Part::kEmbedding},
           {"tok_embeddings.weight", Part::kEmbedding},
           {"output.weight", Part::kHead},
           {"layers.0.attention.wq.weight", Part::kAttention},
           {"layers.0.feed_forward.w1.weight", Part::kMlp},
           {"query_key_value.weight", Part::kAttention},
           {"encoder.layer.0.attention.output.LayerNorm.weight", Part::kNorms},
           {"encoder.layer.0.output.dense.weight", Part::kMlp},
           {"layers.0.mamba.A_log", Part::kMixer},
           {"score.weight", Part::kOther},
           {"w", Part::kOther}}) {
    EXPECT_EQ(parts.Of(name), part) << name;
  }
}

TEST(ModelPartsTest, OfAnArchitectureThatDoesNotRun) {
  const ModelParts mixtral(checkpoint::ArchitectureByName("MixtralForCausalLM"));
  EXPECT_EQ(mixtral.Of("model.layers.1.block_sparse_moe.experts.7.w2.weight"), Part::kExperts);
  EXPECT_EQ(mixtral.Of("model.layers.1.block_sparse_moe.gate.weight"), Part::kExperts);
  const ModelParts gpt2(checkpoint::ArchitectureByName("GPT2LMHeadModel"));
  EXPECT_EQ(gpt2.Of("h.0.mlp.c_proj.weight"), Part::kMlp);
  EXPECT_EQ(gpt2.Of("transformer.h.0.attn.c_proj.weight"), Part::kAttention);
  EXPECT_EQ(gpt2.Of("h.0.attn.bias"), Part::kOther);
  EXPECT_EQ(ModelParts(checkpoint::ArchitectureByName("MambaForCausalLM")).Of("backbone.layers.0.mixer.A_log"),
            Part::kMixer);
  EXPECT_EQ(ModelParts(checkpoint::ArchitectureByName("BertModel")).Of("bert.encoder.layer.0.output.LayerNorm.gamma"),
            Part::kNorms);
}

TEST(LayersByNamesTest, TheFirstNumberOfTheLargestStack) {
  const auto layers = [](const std::vector<std::pair<std::string, uint64_t>>& tensors) {
    checkpoint::Catalogue catalogue;
    for (const auto& [name, size] : tensors) catalogue.Add(name, quant::F32(), std::vector<uint64_t>{size}, size);
    catalogue.Sort();
    return LayersByNames(catalogue);
  };
  EXPECT_EQ(layers({{"m.0.experts.0.w", 1}, {"m.0.experts.1.w", 1}, {"m.1.experts.0.w", 1}}), 2u);
  EXPECT_EQ(layers({{"vision.0.w", 1}, {"vision.1.w", 1}, {"text.0.w", 9}, {"head", 99}}), 1u);
  EXPECT_EQ(layers({{"w", 1}, {"x1.y2", 1}}), std::nullopt);
  EXPECT_EQ(layers({}), std::nullopt);
}

TEST(InspectionTest, PartsAndEncodingsAddUp) {
  const auto model =
      tests::MakeMemoryCheckpoint("m", {tests::EncodedTensor("lm_head.weight", "F32", {2, 2}, {1, 2, 3, 4}),
                                        tests::EncodedTensor("model.embed_tokens.weight", "BF16", {2, 2}, {1, 2, 3, 4}),
                                        tests::EncodedTensor("model.norm.weight", "BF16", {2}, {1, 2})});
  const Inspection inspection = Inspect(*model);
  EXPECT_EQ(inspection.parts.at(Part::kHead).bytes, 16u);
  EXPECT_EQ(inspection.parts.at(Part::kEmbedding).elements, 4u);
  EXPECT_EQ(inspection.parts.at(Part::kNorms).tensors, 1u);
  EXPECT_EQ(inspection.parts.size(), 3u);
  EXPECT_EQ(inspection.encodings.at("BF16").elements, 6u);
  EXPECT_FALSE(inspection.tokenizer);
  EXPECT_EQ(inspection.chat_template, "");
}

}  // namespace
}  // namespace sluice::verify
