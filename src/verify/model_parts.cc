#include "verify/model_parts.h"

#include <algorithm>
#include <set>
#include <string>

#include "checkpoint/expected_tensors.h"

namespace sluice::verify {
namespace {

struct Hint {
  std::string_view text;
  Part part;
};

// The first that occurs in a name decides, so the order counts: a norm of an attention is a norm.
constexpr Hint kHints[] = {
    {"rotary_emb", Part::kOther},  {"expert", Part::kExperts},   {"router", Part::kExperts},
    {"mlp.gate.", Part::kExperts}, {"moe", Part::kExperts},      {"norm", Part::kNorms},
    {"ln_", Part::kNorms},         {".ln1", Part::kNorms},       {".ln2", Part::kNorms},
    {"lm_head", Part::kHead},      {"embed_out", Part::kHead},   {"classifier", Part::kHead},
    {"cls.", Part::kHead},         {"embed", Part::kEmbedding},  {"wte", Part::kEmbedding},
    {"wpe", Part::kEmbedding},     {"attn", Part::kAttention},   {"attention", Part::kAttention},
    {"q_proj", Part::kAttention},  {"k_proj", Part::kAttention}, {"v_proj", Part::kAttention},
    {"o_proj", Part::kAttention},  {"qkv", Part::kAttention},    {"query_key_value", Part::kAttention},
    {"mixer", Part::kMixer},       {"mamba", Part::kMixer},      {"ssm", Part::kMixer},
    {"mlp", Part::kMlp},           {"ffn", Part::kMlp},          {"feed_forward", Part::kMlp},
    {"gate_proj", Part::kMlp},     {"up_proj", Part::kMlp},      {"down_proj", Part::kMlp},
    {"intermediate", Part::kMlp},  {"output.dense", Part::kMlp}, {"fc1", Part::kMlp},
    {"fc2", Part::kMlp},
};

Part PartByName(std::string_view given) {
  if (given == "output.weight") return Part::kHead;  // Mistral's and Meta's own
  std::string name(given);
  std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  for (const Hint& hint : kHints) {
    if (name.find(hint.text) != std::string_view::npos) return hint.part;
  }
  return Part::kOther;
}

}  // namespace

std::string_view PartName(Part part) {
  constexpr std::string_view kNames[] = {"embedding", "attention", "mixer", "mlp", "experts", "norms", "head", "other"};
  return kNames[static_cast<size_t>(part)];
}

ModelParts::ModelParts(const checkpoint::Architecture* architecture) : architecture_(architecture) {
  if (architecture != nullptr) rules_ = checkpoint::PartsByPattern(*architecture);
}

Part ModelParts::Of(std::string_view tensor) const {
  if (checkpoint::IsKnownBuffer(architecture_, tensor)) return Part::kOther;
  const auto rule = rules_.find(checkpoint::NumberPattern(tensor));
  return rule == rules_.end() ? PartByName(tensor) : rule->second;
}

std::optional<uint64_t> LayersByNames(const checkpoint::Catalogue& tensors) {
  struct Layers {
    std::set<std::string, std::less<>> numbers;
    uint64_t elements = 0;
  };
  std::map<std::string, Layers, std::less<>> by_prefix;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string_view name = tensors[i].name;
    for (size_t begin = 0; begin < name.size();) {
      const size_t end = std::min(name.find('.', begin), name.size());
      const std::string_view component = name.substr(begin, end - begin);
      if (!component.empty() && component.find_first_not_of("0123456789") == std::string_view::npos) {
        Layers& layers = by_prefix[std::string(name.substr(0, begin))];
        layers.numbers.emplace(component);
        layers.elements += tensors[i].num_elements;
        break;
      }
      begin = end + 1;
    }
  }
  const auto most = std::ranges::max_element(by_prefix, {}, [](const auto& one) { return one.second.elements; });
  return most == by_prefix.end() ? std::nullopt : std::optional<uint64_t>(most->second.numbers.size());
}

}  // namespace sluice::verify
