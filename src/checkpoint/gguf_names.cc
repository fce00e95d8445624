#include "checkpoint/gguf_names.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace sluice::checkpoint {
namespace {

// GGUF's names of what each step of the forward pass takes, in every architecture.
struct StepName {
  Step step;
  std::string_view gguf;
};
constexpr std::array<StepName, 18> kStepNames = {{
    {Step::kEmbedding, "token_embd"},
    {Step::kInputNorm, "attn_norm"},
    {Step::kQuery, "attn_q"},
    {Step::kKey, "attn_k"},
    {Step::kValue, "attn_v"},
    {Step::kFusedQkv, "attn_qkv"},
    {Step::kQueryNorm, "attn_q_norm"},
    {Step::kKeyNorm, "attn_k_norm"},
    {Step::kAttentionOutput, "attn_output"},
    {Step::kPostAttentionNorm, "post_attention_norm"},
    {Step::kMlpNorm, "ffn_norm"},
    {Step::kGate, "ffn_gate"},
    {Step::kUp, "ffn_up"},
    {Step::kFusedGateUp, "ffn_up"},
    {Step::kDown, "ffn_down"},
    {Step::kPostMlpNorm, "post_ffw_norm"},
    {Step::kFinalNorm, "output_norm"},
    {Step::kHead, "output"},
}};

}  // namespace

bool IsBias(const TensorRule& rule) { return rule.name.ends_with(".bias"); }
bool IsNorm(const TensorRule& rule) { return !IsBias(rule) && rule.columns == Dim::kNone; }

std::string GgufNameOf(const TensorRule& rule, uint64_t layer) {
  const auto step = std::ranges::find(kStepNames, rule.step, &StepName::step);
  if (step == kStepNames.end()) return {};
  const std::string_view ending = IsBias(rule) ? "bias" : "weight";
  if (!IsPerLayer(rule)) return fmt::format("{}.{}", step->gguf, ending);
  return fmt::format("blk.{}.{}.{}", layer, step->gguf, ending);
}

std::optional<GgufName> ParseGgufName(std::string_view name, const Architecture& architecture) {
  GgufName parsed{};
  const bool bias = name.ends_with(".bias");
  if (!bias && !name.ends_with(".weight")) return std::nullopt;
  name.remove_suffix(bias ? 5 : 7);
  if (name.starts_with("blk.")) {
    name.remove_prefix(4);
    uint64_t layer = 0;
    const auto digits = std::from_chars(name.data(), name.data() + name.size(), layer);
    const std::string_view rest(digits.ptr, static_cast<size_t>(name.data() + name.size() - digits.ptr));
    // One spelling for a layer, so that no two names become one.
    if (digits.ec != std::errc() || !rest.starts_with('.') ||
        fmt::format("{}.", layer) != name.substr(0, name.size() - rest.size() + 1)) {
      return std::nullopt;
    }
    name = rest.substr(1);
    parsed.layer = layer;
  }
  for (const TensorRule& rule : architecture.tensors) {
    const auto step = std::ranges::find(kStepNames, rule.step, &StepName::step);
    if (step == kStepNames.end() || step->gguf != name || IsBias(rule) != bias ||
        IsPerLayer(rule) != parsed.layer.has_value())
      continue;
    parsed.rule = &rule;
    return parsed;
  }
  return std::nullopt;
}

}  // namespace sluice::checkpoint
