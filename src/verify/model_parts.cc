#include "verify/model_parts.h"

#include <algorithm>
#include <initializer_list>

#include "base/check.h"

namespace sluice::verify {
namespace {

using checkpoint::Step;

Part PartOf(Step step) {
  switch (step) {
    case Step::kEmbedding:
      return Part::kEmbedding;
    case Step::kQuery:
    case Step::kKey:
    case Step::kValue:
    case Step::kFusedQkv:
    case Step::kAttentionOutput:
      return Part::kAttention;
    case Step::kGate:
    case Step::kUp:
    case Step::kFusedGateUp:
    case Step::kDown:
      return Part::kMlp;
    case Step::kInputNorm:
    case Step::kQueryNorm:
    case Step::kKeyNorm:
    case Step::kPostAttentionNorm:
    case Step::kMlpNorm:
    case Step::kPostMlpNorm:
    case Step::kFinalNorm:
      return Part::kNorms;
    case Step::kHead:
      return Part::kHead;
  }
  SLUICE_CHECK(false);
}

struct Hint {
  std::string_view text;
  Part part;
};

// The first that occurs in a name decides, so the order counts: a norm of an attention is a norm.
constexpr Hint kHints[] = {
    {"rotary_emb", Part::kOther}, {"expert", Part::kExperts},
    {"router", Part::kExperts},   {"mlp.gate.", Part::kExperts},
    {"moe", Part::kExperts},      {"norm", Part::kNorms},
    {"ln_", Part::kNorms},        {".ln1", Part::kNorms},
    {".ln2", Part::kNorms},       {"lm_head", Part::kHead},
    {"embed_out", Part::kHead},   {"embed", Part::kEmbedding},
    {"wte", Part::kEmbedding},    {"wpe", Part::kEmbedding},
    {"attn", Part::kAttention},   {"attention", Part::kAttention},
    {"q_proj", Part::kAttention}, {"k_proj", Part::kAttention},
    {"v_proj", Part::kAttention}, {"o_proj", Part::kAttention},
    {"qkv", Part::kAttention},    {"mlp", Part::kMlp},
    {"ffn", Part::kMlp},          {"feed_forward", Part::kMlp},
    {"gate_proj", Part::kMlp},    {"up_proj", Part::kMlp},
    {"down_proj", Part::kMlp},    {"fc1", Part::kMlp},
    {"fc2", Part::kMlp},
};

Part PartByName(std::string_view name) {
  if (name == "output.weight") return Part::kHead;  // Mistral's and Meta's own
  for (const Hint& hint : kHints) {
    if (name.find(hint.text) != std::string_view::npos) return hint.part;
  }
  return Part::kOther;
}

}  // namespace

std::string_view PartName(Part part) {
  constexpr std::string_view kNames[] = {"embedding", "attention", "mlp", "experts", "norms", "head", "other"};
  return kNames[static_cast<size_t>(part)];
}

std::string LayerPattern(std::string_view name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    if (!component.empty() && component.find_first_not_of("0123456789") == std::string_view::npos) {
      return std::string(name.substr(0, begin)) + "*" + std::string(name.substr(end));
    }
    begin = end + 1;
  }
  return std::string(name);
}

ModelParts::ModelParts(const checkpoint::Architecture* architecture) {
  if (architecture == nullptr) return;
  for (const checkpoint::TensorRule& rule : architecture->tensors) {
    rules_.emplace(std::string(rule.name), PartOf(rule.step));
  }
}

Part ModelParts::Of(std::string_view tensor) const {
  if (rules_.empty()) return PartByName(tensor);
  const auto rule = rules_.find(LayerPattern(tensor));
  return rule == rules_.end() ? PartByName(tensor) : rule->second;
}

}  // namespace sluice::verify
