#include "checkpoint/expected_tensors.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {
namespace {

using Presence = ExpectedTensor::Presence;

std::string_view Trim(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

template <class Each>
void ForEachPiece(std::string_view text, char separator, Each each) {
  for (;;) {
    const size_t end = text.find(separator);
    each(Trim(text.substr(0, end)));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// Where a config has a model_type alone, the first; null where the architecture has no classes.
const ModelClass* ClassOf(const Architecture& architecture, const ModelConfig& config) {
  const auto& classes = architecture.outline.classes;
  if (classes.empty()) return nullptr;
  const auto own = std::ranges::find(classes, config.architecture(), &ModelClass::name);
  return own == classes.end() ? &classes.front() : &*own;
}

// Reads the table of an architecture that has an outline, with the config's sizes.
class OutlineReader {
 public:
  OutlineReader(const Architecture& architecture, const ModelConfig& config)
      : outline_(architecture.outline), config_(config), tied_(config.TiedEmbeddings()) {
    model_.architecture = &architecture;
  }

  std::optional<ExpectedModel> Read() {
    model_.layers = SizeOf("num_hidden_layers");
    for (const PartRule& rule : outline_.tensors) Add(rule);
    if (const ModelClass* own = ClassOf(*model_.architecture, config_)) {
      for (const PartRule& rule : own->tensors) Add(rule);
    }
    return missing_ ? std::nullopt : std::optional(std::move(model_));
  }

 private:
  void Add(const PartRule& rule) {
    ExpectedTensor tensor;
    tensor.part = rule.part;
    tensor.has_prefix = rule.name.starts_with('^');
    tensor.name = rule.name.substr(tensor.has_prefix ? 1 : 0);
    if (tensor.name.find('*') != std::string::npos) tensor.layers = model_.layers;
    Decide(rule.when, &tensor);
    // A size that only tensors of other configs have need not be there.
    const bool has_sizes = tensor.presence != Presence::kUnwanted;
    if (const size_t open = tensor.name.find('{'); open != std::string::npos) {
      const size_t close = tensor.name.find('}', open);
      SLUICE_CHECK(close != std::string::npos);
      if (has_sizes) tensor.copies = SizeOf(tensor.name.substr(open + 1, close - open - 1));
      tensor.name.replace(open, close - open + 1, "*");
    }
    if (has_sizes) tensor.shape = ShapeOf(rule.shape);
    model_.tensors.push_back(std::move(tensor));
  }

  void Decide(std::string_view when, ExpectedTensor* tensor) {
    if (when.empty()) return;
    if (when == "?") {
      tensor->presence = Presence::kOptional;
      return;
    }
    if (when == "!tie_word_embeddings") {
      if (tied_) tensor->presence = Presence::kTied;
      return;
    }
    bool wanted = false;
    if (const size_t equals = when.find('='); equals != std::string_view::npos) {
      const nlohmann::ordered_json value = config_.Value(when.substr(0, equals));
      const nlohmann::ordered_json text = std::string(when.substr(equals + 1));
      if (value.is_array() && value.size() == tensor->layers) {
        tensor->in_layer.reserve(value.size());
        for (const auto& entry : value) tensor->in_layer.push_back(entry == text);
        wanted = std::ranges::find(tensor->in_layer, true) != tensor->in_layer.end();
      } else {
        wanted = value == text;
        if (value.is_null() || value.is_array()) missing_ = true;
      }
    } else {
      const bool negated = when.starts_with('!');
      wanted = config_.GetBool(when.substr(negated ? 1 : 0)).value_or(false) != negated;
    }
    if (!wanted) tensor->presence = Presence::kUnwanted;
  }

  std::optional<std::vector<uint64_t>> ShapeOf(std::string_view text) {
    std::vector<uint64_t> shape;
    bool overflow = false;
    ForEachPiece(text, ',', [&](std::string_view dim) {
      uint64_t sum = 0;
      ForEachPiece(dim, '+', [&](std::string_view term) {
        uint64_t product = 1;
        ForEachPiece(term, '*', [&](std::string_view factor) {
          overflow |= __builtin_mul_overflow(product, SizeOf(factor), &product);
        });
        overflow |= __builtin_add_overflow(sum, product, &sum);
      });
      shape.push_back(sum);
    });
    return overflow ? std::nullopt : std::optional(std::move(shape));
  }

  uint64_t SizeOf(std::string_view factor) {
    uint64_t number = 0;
    if (std::from_chars(factor.data(), factor.data() + factor.size(), number).ec == std::errc()) return number;
    const auto [place, is_new] = sizes_.try_emplace(std::string(factor));
    if (is_new) place->second = config_.GetInt(factor);
    if (!place->second) missing_ = true;
    return place->second.value_or(0);
  }

  const Outline& outline_;
  const ModelConfig& config_;
  const bool tied_;
  std::map<std::string, std::optional<uint64_t>, std::less<>> sizes_;
  bool missing_ = false;
  ExpectedModel model_;
};

std::optional<ExpectedModel> ExpectSteps(const Architecture& architecture, const ModelConfig& config) {
  const auto sizes = SizesOf(config);
  if (!sizes) return std::nullopt;
  ExpectedModel model = {&architecture, sizes->layers, {}};
  for (const TensorRule& rule : architecture.tensors) {
    ExpectedTensor tensor;
    tensor.name = rule.name;
    tensor.part = PartOf(rule.step);
    tensor.shape = ShapeOf(rule, *sizes);
    if (IsPerLayer(rule)) tensor.layers = sizes->layers;
    if (!IsWanted(rule, *sizes)) {
      tensor.presence = rule.when == When::kUntied ? Presence::kTied : Presence::kUnwanted;
    }
    model.tensors.push_back(std::move(tensor));
  }
  return model;
}

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

class Comparison {
 public:
  Comparison(const ExpectedModel& model, const ModelConfig& config, const Catalogue& tensors)
      : model_(model), tensors_(tensors), expected_(tensors.size()) {
    const std::vector<std::string_view> prefixes = PrefixesOf(*model.architecture, &config);
    const auto fits = std::ranges::find_if(prefixes, [&](std::string_view prefix) {
      return Find(model.tensors.front().NameOf(prefix, 0, 0)).has_value();
    });
    prefix_ = fits == prefixes.end() ? prefixes.front() : *fits;
  }

  void Run() {
    for (const ExpectedTensor& tensor : model_.tensors) {
      // A tied head may be stored all the same; a bias that the config does not have may not.
      if (tensor.presence == Presence::kUnwanted) continue;
      for (uint64_t layer = 0; layer < tensor.layers; ++layer) {
        if (!tensor.in_layer.empty() && !tensor.in_layer[layer]) continue;
        for (uint64_t copy = 0; copy < tensor.copies; ++copy) Look(tensor, tensor.NameOf(prefix_, layer, copy));
      }
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (!expected_[i] && !IsKnownBuffer(model_.architecture, tensors_[i].name)) unknown.Add(tensors_[i].name);
    }
  }

  Finding missing, reshaped, unknown;
  std::vector<std::string> tied;  // not stored
  std::string first_shapes;

 private:
  std::optional<size_t> Find(std::string_view name) const {
    if (const auto place = tensors_.Find(name)) return place;
    for (const OldEnding& one : model_.architecture->outline.old_endings) {
      if (!name.ends_with(one.ending)) continue;
      const auto place =
          tensors_.Find(fmt::format("{}{}", name.substr(0, name.size() - one.ending.size()), one.old_ending));
      if (place) return place;
    }
    return std::nullopt;
  }

  void Look(const ExpectedTensor& tensor, const std::string& name) {
    const auto place = Find(name);
    if (!place) {
      if (tensor.presence == Presence::kWanted) missing.Add(name);
      if (tensor.presence == Presence::kTied) tied.push_back(name);
      return;
    }
    expected_[*place] = true;
    if (tensor.shape && std::ranges::equal(*tensor.shape, tensors_[*place].shape)) return;
    if (reshaped.count == 0) {
      first_shapes = fmt::format("{} has {}, config.json predicts {}", name, ShapeText(tensors_[*place].shape),
                                 tensor.shape ? ShapeText(*tensor.shape) : "more than 64 bits can count");
    }
    reshaped.Add(name);
  }

  const ExpectedModel& model_;
  const Catalogue& tensors_;
  std::vector<bool> expected_;
  std::string_view prefix_;
};

}  // namespace

std::optional<uint64_t> ExpectedTensor::Elements() const {
  if (!shape) return std::nullopt;
  uint64_t count = in_layer.empty() ? layers : static_cast<uint64_t>(std::ranges::count(in_layer, true));
  if (__builtin_mul_overflow(count, copies, &count)) return std::nullopt;
  for (const uint64_t dim : *shape) {
    if (__builtin_mul_overflow(count, dim, &count)) return std::nullopt;
  }
  return count;
}

std::string ExpectedTensor::NameOf(std::string_view prefix, uint64_t layer, uint64_t copy) const {
  std::string text = fmt::format("{}{}", has_prefix ? prefix : "", name);
  // The layer comes first in every table.
  for (const uint64_t number : {layer, copy}) {
    if (const size_t star = text.find('*'); star != std::string::npos) text.replace(star, 1, std::to_string(number));
  }
  return text;
}

std::vector<std::string_view> PrefixesOf(const Architecture& architecture, const ModelConfig* config) {
  std::vector<std::string_view> prefixes;
  const auto add = [&](std::string_view prefix) {
    if (std::ranges::find(prefixes, prefix) == prefixes.end()) prefixes.push_back(prefix);
  };
  if (const ModelClass* own = config == nullptr ? nullptr : ClassOf(architecture, *config)) add(own->prefix);
  for (const ModelClass& one : architecture.outline.classes) add(one.prefix);
  if (prefixes.empty()) add("");
  return prefixes;
}

std::optional<ExpectedModel> Expect(const ModelConfig& config) {
  const Architecture* known = ArchitectureOf(config);
  if (known == nullptr) return std::nullopt;
  return known->runs() ? ExpectSteps(*known, config) : OutlineReader(*known, config).Read();
}

std::map<std::string, Part, std::less<>> PartsByPattern(const Architecture& architecture) {
  std::map<std::string, Part, std::less<>> parts;
  for (const TensorRule& rule : architecture.tensors) parts.emplace(std::string(rule.name), PartOf(rule.step));
  const auto add = [&](const PartRule& rule) {
    const bool has_prefix = rule.name.starts_with('^');
    std::string name(rule.name.substr(has_prefix ? 1 : 0));
    if (const size_t open = name.find('{'); open != std::string::npos) {
      name.replace(open, name.find('}', open) - open + 1, "*");
    }
    for (const std::string_view prefix : PrefixesOf(architecture, nullptr)) {
      parts.emplace(fmt::format("{}{}", has_prefix ? prefix : "", name), rule.part);
    }
  };
  std::ranges::for_each(architecture.outline.tensors, add);
  for (const ModelClass& one : architecture.outline.classes) std::ranges::for_each(one.tensors, add);
  return parts;
}

std::string NumberPattern(std::string_view name) {
  std::string pattern;
  pattern.reserve(name.size());
  for (;;) {
    const size_t end = name.find('.');
    const std::string_view component = name.substr(0, end);
    const bool is_number = !component.empty() && component.find_first_not_of("0123456789") == std::string_view::npos;
    pattern += is_number ? "*" : component;
    if (end == std::string_view::npos) return pattern;
    pattern += '.';
    name.remove_prefix(end + 1);
  }
}

std::optional<uint64_t> ModelConfig::PredictedParameters() const {
  const auto model = Expect(*this);
  if (!model) return std::nullopt;
  uint64_t total = 0;
  for (const ExpectedTensor& tensor : model->tensors) {
    if (tensor.presence != Presence::kWanted) continue;
    const auto count = tensor.Elements();
    if (!count || __builtin_add_overflow(total, *count, &total)) return std::nullopt;
  }
  return total;
}

void CompareWithConfig(const ModelConfig& config, const Catalogue& tensors, const std::string& file,
                       std::vector<Problem>* problems) {
  const Architecture* known = ArchitectureOf(config);
  if (known == nullptr || config.json().contains("quantization_config")) return;
  const auto report = [&](Problem::Severity severity, std::string tensor, std::string message) {
    problems->push_back({severity, file, std::move(tensor), std::move(message)});
  };
  const auto model = Expect(config);
  if (!model) {
    report(Problem::Severity::kError, "", fmt::format("config.json does not give the sizes of a {}", known->name));
    return;
  }
  if (model->layers > tensors.size()) {
    report(Problem::Severity::kError, "",
           fmt::format("config.json says {} layers, more than there are tensors", FormatCount(model->layers)));
    return;
  }
  for (const ExpectedTensor& tensor : model->tensors) {
    if (tensor.copies <= tensors.size() / std::max<uint64_t>(tensor.layers, 1)) continue;
    if (tensor.presence == Presence::kUnwanted) continue;
    report(Problem::Severity::kError, "",
           fmt::format("config.json says {} times {} of {}, more than there are tensors", FormatCount(tensor.layers),
                       FormatCount(tensor.copies), tensor.name));
    return;
  }

  Comparison found(*model, config, tensors);
  found.Run();
  for (const std::string& name : found.tied) {
    report(Problem::Severity::kNote, name, "not stored: tied to the input embedding");
  }
  if (found.missing.count > 0) {
    report(
        Problem::Severity::kError, found.missing.first,
        fmt::format("{} tensors that config.json predicts are missing: {}", found.missing.count, found.missing.names));
  }
  if (found.reshaped.count > 0) {
    report(Problem::Severity::kError, found.reshaped.first,
           fmt::format("{} tensors have another shape than config.json predicts: {}", found.reshaped.count,
                       found.first_shapes));
  }
  if (found.unknown.count > 0) {
    report(Problem::Severity::kWarning, found.unknown.first,
           fmt::format("{} tensors are not part of a {} of this config: {}", found.unknown.count, known->name,
                       found.unknown.names));
  }
}

}  // namespace sluice::checkpoint
