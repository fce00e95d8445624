#include "checkpoint/architecture.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "checkpoint/model_config.h"
#include "generated/architectures_table.inc"

namespace sluice::checkpoint {
const Architecture* ArchitectureByName(std::string_view name) {
  for (auto make : architectures::kTable) {
    const auto& classes = make().outline.classes;
    if (make().name == name || std::ranges::find(classes, name, &ModelClass::name) != classes.end()) return &make();
  }
  return nullptr;
}

const Architecture* ArchitectureByModelType(std::string_view model_type) {
  for (auto make : architectures::kTable) {
    if (make().model_type == model_type) return &make();
  }
  return nullptr;
}

std::vector<const Architecture*> AllArchitectures() {
  std::vector<const Architecture*> all;
  all.reserve(std::size(architectures::kTable));
  for (auto make : architectures::kTable) all.push_back(&make());
  return all;
}

std::vector<std::string_view> ArchitectureNames() {
  std::vector<std::string_view> names;
  for (const Architecture* one : AllArchitectures()) {
    if (one->runs()) names.push_back(one->name);
  }
  return names;
}

const Architecture* ArchitectureOf(const ModelConfig& config) {
  const std::string name = config.architecture();
  const Architecture* known = ArchitectureByName(name);
  return known != nullptr || config.json().contains("architectures") ? known : ArchitectureByModelType(name);
}

std::optional<ModelSizes> SizesOf(const ModelConfig& config) {
  ModelSizes sizes;
  const std::pair<const char*, uint64_t*> numbers[] = {
      {"num_hidden_layers", &sizes.layers},  {"vocab_size", &sizes.vocab},
      {"hidden_size", &sizes.hidden},        {"intermediate_size", &sizes.ffn},
      {"num_attention_heads", &sizes.heads}, {"num_key_value_heads", &sizes.kv_heads},
      {"head_dim", &sizes.head_dim}};
  for (const auto& [key, out] : numbers) {
    const auto value = config.GetInt(key);
    if (!value) return std::nullopt;
    *out = *value;
  }
  sizes.tied = config.TiedEmbeddings();
  sizes.attention_bias = config.GetBool("attention_bias").value_or(false);
  sizes.mlp_bias = config.GetBool("mlp_bias").value_or(false);
  return sizes;
}

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

bool IsPerLayer(const TensorRule& rule) { return rule.name.find('*') != std::string_view::npos; }

std::string NameOf(const TensorRule& rule, uint64_t layer) {
  const size_t star = rule.name.find('*');
  if (star == std::string_view::npos) return std::string(rule.name);
  return fmt::format("{}{}{}", rule.name.substr(0, star), layer, rule.name.substr(star + 1));
}

std::optional<std::vector<uint64_t>> ShapeOf(const TensorRule& rule, const ModelSizes& sizes) {
  std::vector<uint64_t> shape;
  for (const Dim dim : {rule.rows, rule.columns}) {
    uint64_t size = 0;
    bool overflow = false;
    switch (dim) {
      case Dim::kNone:
        continue;
      case Dim::kVocab:
        size = sizes.vocab;
        break;
      case Dim::kHidden:
        size = sizes.hidden;
        break;
      case Dim::kFfn:
        size = sizes.ffn;
        break;
      case Dim::kHeadDim:
        size = sizes.head_dim;
        break;
      case Dim::kQuery:
        overflow = __builtin_mul_overflow(sizes.heads, sizes.head_dim, &size);
        break;
      case Dim::kKeyValue:
        overflow = __builtin_mul_overflow(sizes.kv_heads, sizes.head_dim, &size);
        break;
      case Dim::kFusedQkv:
        overflow = __builtin_mul_overflow(sizes.kv_heads, uint64_t{2}, &size) ||
                   __builtin_add_overflow(size, sizes.heads, &size) ||
                   __builtin_mul_overflow(size, sizes.head_dim, &size);
        break;
      case Dim::kFusedGateUp:
        overflow = __builtin_mul_overflow(sizes.ffn, uint64_t{2}, &size);
        break;
    }
    if (overflow) return std::nullopt;
    shape.push_back(size);
  }
  return shape;
}

bool IsWanted(const TensorRule& rule, const ModelSizes& sizes) {
  switch (rule.when) {
    case When::kAlways:
      return true;
    case When::kUntied:
      return !sizes.tied;
    case When::kAttentionBias:
      return sizes.attention_bias;
    case When::kMlpBias:
      return sizes.mlp_bias;
  }
  SLUICE_CHECK(false);
}

bool IsKnownBuffer(const Architecture* known, std::string_view tensor) {
  if (tensor.ends_with(".rotary_emb.inv_freq")) return true;
  return known != nullptr &&
         std::ranges::any_of(known->outline.buffers, [&](std::string_view ending) { return tensor.ends_with(ending); });
}

}  // namespace sluice::checkpoint
