#include "report/tensor_kind.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "merge/merge_plan.h"

namespace sluice::report {
namespace {

constexpr std::array<std::string_view, 15> kOrder = {"q",     "k",          "v",         "qkv",  "o",
                                                     "gate",  "up",         "gate+up",   "down", "router",
                                                     "norms", "final norm", "embedding", "head", "other"};

// The last part of a name that tells its kind: Hugging Face's names, and GGUF's.
constexpr std::array<std::pair<std::string_view, std::string_view>, 51> kParts = {{
    {"q_proj", "q"},
    {"wq", "q"},
    {"attn_q", "q"},
    {"query", "q"},
    {"k_proj", "k"},
    {"wk", "k"},
    {"attn_k", "k"},
    {"key", "k"},
    {"v_proj", "v"},
    {"wv", "v"},
    {"attn_v", "v"},
    {"value", "v"},
    {"qkv_proj", "qkv"},
    {"c_attn", "qkv"},
    {"query_key_value", "qkv"},
    {"W_pack", "qkv"},
    {"wqkv", "qkv"},
    {"attn_qkv", "qkv"},
    {"o_proj", "o"},
    {"wo", "o"},
    {"attn_output", "o"},
    {"out_proj", "o"},
    {"gate_proj", "gate"},
    {"w1", "gate"},
    {"ffn_gate", "gate"},
    {"up_proj", "up"},
    {"w3", "up"},
    {"ffn_up", "up"},
    {"c_fc", "up"},
    {"fc1", "up"},
    {"dense_h_to_4h", "up"},
    {"gate_up_proj", "gate+up"},
    {"down_proj", "down"},
    {"w2", "down"},
    {"ffn_down", "down"},
    {"fc2", "down"},
    {"dense_4h_to_h", "down"},
    {"ffn_gate_inp", "router"},
    {"router", "router"},
    {"embed_tokens", "embedding"},
    {"wte", "embedding"},
    {"wpe", "embedding"},
    {"token_embd", "embedding"},
    {"word_embeddings", "embedding"},
    {"tok_embeddings", "embedding"},
    {"embed_in", "embedding"},
    {"lm_head", "head"},
    {"output", "head"},
    {"embed_out", "head"},
    {"ln_f", "final norm"},
    {"output_norm", "final norm"},
}};

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

std::string KindOf(std::string_view tensor) {
  const bool is_of_a_layer = merge::LayerNumberOf(tensor).has_value();
  for (size_t end = tensor.size(); end > 0;) {
    const size_t dot = tensor.rfind('.', end - 1);
    const size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
    const std::string_view part = tensor.substr(begin, end - begin);
    const auto known = std::ranges::find(kParts, part, [](const auto& entry) { return entry.first; });
    if (known != kParts.end()) return std::string(known->second);
    if (Contains(part, "norm") || part.starts_with("ln_")) return is_of_a_layer ? "norms" : "final norm";
    // Names that mean one thing here and another there.
    const std::string_view before = tensor.substr(0, begin);
    const bool is_attention = Contains(before, "attn") || Contains(before, "attention");
    if (part == "c_proj" || part == "dense") return is_attention ? "o" : "down";
    if (part == "gate") return "router";
    end = begin == 0 ? 0 : begin - 1;
  }
  return "other";
}

size_t KindOrder(std::string_view kind) {
  return static_cast<size_t>(std::ranges::find(kOrder, kind) - kOrder.begin());
}

}  // namespace sluice::report
