#include "checkpoint/architecture.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "generated/architectures_table.inc"

namespace sluice::checkpoint {
namespace {

// What differs of one kind: how often, and the first few.
struct Finding {
  uint64_t count = 0;
  std::string first, names;

  void Add(std::string_view name) {
    if (count == 0) first = name;
    if (count < 3) names += fmt::format("{}{}", count == 0 ? "" : ", ", name);
    if (count == 3) names += ", ...";
    ++count;
  }
};

// Buffers that old releases stored among the weights; every loader ignores them.
bool IsKnownBuffer(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

}  // namespace

const Architecture* ArchitectureByName(std::string_view name) {
  for (auto make : architectures::kTable) {
    if (make().name == name) return &make();
  }
  return nullptr;
}

const Architecture* ArchitectureByModelType(std::string_view model_type) {
  for (auto make : architectures::kTable) {
    if (make().model_type == model_type) return &make();
  }
  return nullptr;
}

std::vector<std::string_view> ArchitectureNames() {
  std::vector<std::string_view> names;
  names.reserve(std::size(architectures::kTable));
  for (auto make : architectures::kTable) names.push_back(make().name);
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

std::optional<uint64_t> ModelConfig::PredictedParameters() const {
  const Architecture* known = ArchitectureOf(*this);
  if (known == nullptr) return std::nullopt;
  const auto sizes = SizesOf(*this);
  if (!sizes) return std::nullopt;
  uint64_t total = 0;
  for (const TensorRule& rule : known->tensors) {
    if (!IsWanted(rule, *sizes)) continue;
    const auto shape = ShapeOf(rule, *sizes);
    if (!shape) return std::nullopt;
    uint64_t count = IsPerLayer(rule) ? sizes->layers : 1;
    for (const uint64_t dim : *shape) {
      if (__builtin_mul_overflow(count, dim, &count)) return std::nullopt;
    }
    if (__builtin_add_overflow(total, count, &total)) return std::nullopt;
  }
  return total;
}

void CompareWithConfig(const ModelConfig& config, const Catalogue& tensors, const std::string& file,
                       std::vector<Problem>* problems) {
  const Architecture* known = ArchitectureOf(config);
  if (known == nullptr || config.json().contains("quantization_config")) return;
  const auto sizes = SizesOf(config);
  const auto report = [&](Problem::Severity severity, std::string tensor, std::string message) {
    problems->push_back({severity, file, std::move(tensor), std::move(message)});
  };
  if (!sizes) {
    report(Problem::Severity::kError, "", fmt::format("config.json does not give the sizes of a {}", known->name));
    return;
  }
  if (sizes->layers > tensors.size()) {
    report(Problem::Severity::kError, "",
           fmt::format("config.json says {} layers, more than there are tensors", FormatCount(sizes->layers)));
    return;
  }

  Finding missing, reshaped, unknown;
  std::vector<bool> expected(tensors.size());
  std::string first_shapes;
  for (const TensorRule& rule : known->tensors) {
    const auto shape = ShapeOf(rule, *sizes);
    for (uint64_t layer = 0; layer < (IsPerLayer(rule) ? sizes->layers : 1); ++layer) {
      const std::string name = NameOf(rule, layer);
      const auto place = tensors.Find(name);
      if (!place) {
        if (IsWanted(rule, *sizes)) missing.Add(name);
        if (rule.when == When::kUntied && sizes->tied) {
          report(Problem::Severity::kNote, name, "not stored: tied to the input embedding");
        }
        continue;
      }
      // A tied head may be stored all the same; a bias that the config does not have may not.
      if (!IsWanted(rule, *sizes) && rule.when != When::kUntied) continue;
      expected[*place] = true;
      if (!shape || !std::ranges::equal(*shape, tensors[*place].shape)) {
        if (reshaped.count == 0) {
          first_shapes = fmt::format("{} has {}, config.json predicts {}", name, ShapeText(tensors[*place].shape),
                                     shape ? ShapeText(*shape) : "more than 64 bits can count");
        }
        reshaped.Add(name);
      }
    }
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!expected[i] && !IsKnownBuffer(tensors[i].name)) unknown.Add(tensors[i].name);
  }
  if (missing.count > 0) {
    report(Problem::Severity::kError, missing.first,
           fmt::format("{} tensors that config.json predicts are missing: {}", missing.count, missing.names));
  }
  if (reshaped.count > 0) {
    report(Problem::Severity::kError, reshaped.first,
           fmt::format("{} tensors have another shape than config.json predicts: {}", reshaped.count, first_shapes));
  }
  if (unknown.count > 0) {
    report(
        Problem::Severity::kWarning, unknown.first,
        fmt::format("{} tensors are not part of a {} of this config: {}", unknown.count, known->name, unknown.names));
  }
}

}  // namespace sluice::checkpoint
