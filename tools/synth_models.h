// Checkpoints without files: a Llama of given sizes with seeded weights, and a seeded update of another checkpoint.
#pragma once

#include <optional>
#include <string_view>

#include "synth_nodes.h"

namespace sluice::tools {

// The sizes of a Llama-architecture model.
struct LlamaShape {
  std::string_view name;
  uint64_t layers, hidden, ffn, heads, kv_heads, vocab, positions;
  double rope_theta;
  bool tied;
};

constexpr LlamaShape kLlamaShapes[] = {
    {"yi-34b", 60, 7168, 20480, 56, 8, 64000, 200000, 5e6, false},
    {"tinyllama", 22, 2048, 5632, 32, 4, 32000, 2048, 1e4, false},
    {"smollm2", 30, 576, 1536, 9, 3, 49152, 8192, 1e5, true},
    {"tiny", 2, 64, 176, 4, 2, 512, 512, 1e4, false},
};

inline nlohmann::ordered_json ConfigOf(const LlamaShape& shape, quant::Encoding encoding) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"bos_token_id", 1},
          {"eos_token_id", 2},
          {"hidden_act", "silu"},
          {"hidden_size", shape.hidden},
          {"intermediate_size", shape.ffn},
          {"max_position_embeddings", shape.positions},
          {"model_type", "llama"},
          {"num_attention_heads", shape.heads},
          {"num_hidden_layers", shape.layers},
          {"num_key_value_heads", shape.kv_heads},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", shape.rope_theta},
          {"tie_word_embeddings", shape.tied},
          {"torch_dtype", quant::DtypeName(encoding)},
          {"vocab_size", shape.vocab}};
}

// Weights like trained ones: normal with sigma 0.02, norms around 1.
class SyntheticLlama final : public checkpoint::Checkpoint {
 public:
  SyntheticLlama(const LlamaShape& shape, quant::Encoding encoding, uint64_t seed) : encoding_(encoding), seed_(seed) {
    ref_ = fmt::format("synthetic {} (seed {})", shape.name, seed);
    kind_ = "synthetic";
    const uint64_t h = shape.hidden, kv = h / shape.heads * shape.kv_heads;
    Add("model.embed_tokens.weight", {shape.vocab, h});
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      Add(prefix + "input_layernorm.weight", {h});
      Add(prefix + "self_attn.q_proj.weight", {h, h});
      Add(prefix + "self_attn.k_proj.weight", {kv, h});
      Add(prefix + "self_attn.v_proj.weight", {kv, h});
      Add(prefix + "self_attn.o_proj.weight", {h, h});
      Add(prefix + "post_attention_layernorm.weight", {h});
      Add(prefix + "mlp.gate_proj.weight", {shape.ffn, h});
      Add(prefix + "mlp.up_proj.weight", {shape.ffn, h});
      Add(prefix + "mlp.down_proj.weight", {h, shape.ffn});
    }
    Add("model.norm.weight", {h});
    if (!shape.tied) Add("lm_head.weight", {shape.vocab, h});
    tensors_.Sort();
    config_ = checkpoint::ModelConfig::FromJson(ConfigOf(shape, encoding));
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    const checkpoint::TensorInfo tensor = tensors_[i];
    const bool norm = tensor.name.find("norm") != std::string_view::npos;
    const graph::Node* noise = graph->Add(std::make_unique<NoiseNode>(
        seed_, std::string(tensor.name), norm ? 1.0f : 0.0f, norm ? 0.1f : 0.02f, tensor.num_elements));
    return graph->AddCast(noise, encoding_);
  }

 private:
  void Add(const std::string& name, std::vector<uint64_t> shape) {
    uint64_t elements = 1;
    for (uint64_t dim : shape) elements *= dim;
    tensors_.Add(name, encoding_, shape, elements);
  }

  quant::Encoding encoding_;
  uint64_t seed_;
};

// Every float tensor of `base` moved by scale x its root mean square x normal noise; all else as it is.
class SyntheticFineTune final : public checkpoint::Checkpoint {
 public:
  // `encoding`: of the result's float tensors; without one each keeps its own, or BF16 where that has no encoder.
  SyntheticFineTune(std::shared_ptr<const checkpoint::Checkpoint> base, uint64_t seed, float scale,
                    std::optional<quant::Encoding> encoding)
      : base_(std::move(base)), seed_(seed), scale_(scale), encoding_(encoding) {
    ref_ = fmt::format("synthetic update of {} (seed {})", base_->ref(), seed);
    kind_ = "synthetic";
    config_ = base_->config() == nullptr ? nullptr : checkpoint::ModelConfig::FromJson(base_->config()->json());
    side_files_ = base_->side_files();
    files_ = base_->files();
    embedded_tokenizer_ = base_->embedded_tokenizer();
    for (size_t i = 0; i < base_->tensors().size(); ++i) {
      const checkpoint::TensorInfo tensor = base_->tensors()[i];
      tensors_.Add(tensor.name, Target(tensor.encoding), tensor.shape, tensor.num_elements);
    }
    tensors_.Sort();  // the base's order is sorted already: index i is the same tensor in both
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    const graph::Node* base = base_->MakeNode(i, graph);
    if (!base->encoding()->is_float) return base;
    const graph::Node* update = graph->Add(
        std::make_unique<UpdateNode>(seed_, std::string(tensors_[i].name), scale_, graph->AddCast(base, quant::F32())));
    return graph->AddCast(update, tensors_[i].encoding);
  }

 private:
  quant::Encoding Target(quant::Encoding stored) const {
    if (!stored->is_float) return stored;
    if (encoding_) return *encoding_;
    return stored->encode != nullptr && !stored.is_block() ? stored : quant::BF16();
  }

  std::shared_ptr<const checkpoint::Checkpoint> base_;
  uint64_t seed_;
  float scale_;
  std::optional<quant::Encoding> encoding_;
};

}  // namespace sluice::tools
