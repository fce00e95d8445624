#include "tests/support/tiny_llama_gguf.h"

#include <algorithm>
#include <map>

namespace sluice::tests {
namespace {

// reshape(heads, 2, head_dim / 2, columns), axes 1 and 2 swapped.
std::string Permute(const std::string& rows, uint64_t num_rows, uint64_t heads) {
  const uint64_t row_bytes = rows.size() / num_rows, half = num_rows / heads / 2;
  std::string permuted;
  for (uint64_t head = 0; head < heads; ++head) {
    for (uint64_t i = 0; i < half; ++i) {
      for (uint64_t part = 0; part < 2; ++part) {
        permuted += rows.substr(((head * 2 + part) * half + i) * row_bytes, row_bytes);
      }
    }
  }
  return permuted;
}

}  // namespace

GgufBuilder TinyLlamaGgufKeys(const TinyLlama& o) {
  GgufBuilder builder;
  builder.String("general.architecture", "llama")
      .U32("llama.block_count", static_cast<uint32_t>(o.layers))
      .U32("llama.context_length", 2048)
      .U32("llama.embedding_length", static_cast<uint32_t>(o.hidden))
      .U32("llama.feed_forward_length", static_cast<uint32_t>(o.ffn))
      .U32("llama.attention.head_count", static_cast<uint32_t>(o.heads))
      .U32("llama.attention.head_count_kv", static_cast<uint32_t>(o.kv_heads))
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .F32("llama.rope.freq_base", 10000.f)
      .U32("llama.rope.dimension_count", static_cast<uint32_t>(o.hidden / o.heads))
      .U32("llama.vocab_size", static_cast<uint32_t>(o.vocab))
      .U32("general.quantization_version", 2);
  if (o.tokenizer) {
    std::vector<std::string> tokens;
    for (uint64_t i = 0; i < o.vocab; ++i) tokens.push_back("t" + std::to_string(i));
    builder.String("tokenizer.ggml.model", "gpt2")
        .Strings("tokenizer.ggml.tokens", tokens)
        .Strings("tokenizer.ggml.merges", {"t 1"})
        .U32("tokenizer.ggml.bos_token_id", 1)
        .U32("tokenizer.ggml.eos_token_id", 2);
  }
  return builder;
}

std::string GgufNameOf(const std::string& name) {
  static const std::map<std::string, std::string> parts = {
      {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},   {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},       {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}};
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  const size_t layer = std::string("model.layers.").size(), part = name.find('.', layer) + 1, end = name.rfind('.');
  return "blk." + name.substr(layer, part - layer) + parts.at(name.substr(part, end - part)) + name.substr(end);
}

std::string TinyLlamaGguf(const TinyLlama& o) {
  GgufBuilder builder = TinyLlamaGgufKeys(o);
  for (const TestTensor& tensor : TinyLlamaTensors(o)) {
    std::string data(tensor.bytes.begin(), tensor.bytes.end());
    if (tensor.name.find("q_proj") != std::string::npos) data = Permute(data, tensor.shape[0], o.heads);
    if (tensor.name.find("k_proj") != std::string::npos) data = Permute(data, tensor.shape[0], o.kv_heads);
    const uint32_t type = o.dtype == "F32" ? 0 : o.dtype == "F16" ? 1 : 30;
    builder.Tensor(GgufNameOf(tensor.name), type, {tensor.shape.rbegin(), tensor.shape.rend()}, data);
  }
  return builder.Build();
}

}  // namespace sluice::tests
