#include "checkpoint/lora_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <regex>

#include <fmt/format.h>

#include "checkpoint/architecture.h"
#include "formats/json_document.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

using formats::Printable;
using nlohmann::ordered_json;

constexpr size_t kMaxPatternChars = 512;
constexpr size_t kMaxPatterns = 65536;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWordChar(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// What std::regex would read otherwise than Python does, or take long over.
std::optional<std::string> WhatIsRefused(std::string_view key) {
  if (key.size() > kMaxPatternChars) return fmt::format("it is longer than {} characters", kMaxPatternChars);
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '{') return "counts in braces are not supported yet";
    if (key[i] == '(' && i + 2 < key.size() && key[i + 1] == '?' && key[i + 2] != ':') {
      return "groups that begin with (? are not supported yet, but for (?:";
    }
    if (key[i] == '[' && i + 1 < key.size() && (key[i + 1] == ':' || key[i + 1] == '.' || key[i + 1] == '=')) {
      return fmt::format("[{} is not supported yet", key[i + 1]);
    }
    const std::string_view rest = key.substr(i);
    if (rest.starts_with("[]") || rest.starts_with("[^]")) {
      return "a class that begins with ] is not supported yet";
    }
    if (key[i] != '\\') continue;
    if (++i == key.size()) return "it ends in a backslash";
    if (IsWordChar(key[i]) && std::string_view("dDwWsSbB").find(key[i]) == std::string_view::npos) {
      return fmt::format("\\{} is not supported yet", key[i]);
    }
  }
  return std::nullopt;
}

// Names and dots, which match any character as they do in an expression.
bool MatchesPlainly(std::string_view key, std::string_view module) {
  if (key.size() > module.size()) return false;
  const size_t begin = module.size() - key.size();
  if (begin > 0 && module[begin - 1] != '.') return false;
  return std::equal(key.begin(), key.end(), module.begin() + static_cast<ptrdiff_t>(begin),
                    [](char wanted, char c) { return wanted == '.' || wanted == c; });
}

struct Variant {
  std::string_view key, what;
};
// Keys that, where they are set, make of an adapter something else than W + scale * B A.
constexpr std::array<Variant, 10> kVariants = {{
    {"use_dora", "DoRA, which scales every row of the weight to a length that it has learnt"},
    {"use_qalora", "QALoRA, which pools a layer's inputs"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"alora_invocation_tokens", "an activated LoRA, which holds for some tokens only and cannot be merged"},
    {"kasa_config", "KaSA, which changes the base model's weights too"},
    {"monteclora_config", "Monteclora, which samples"},
    {"arrow_config", "Arrow, which chooses among adapters when the model runs"},
    {"layer_replication", "an adapter of a model with layers repeated"},
    {"target_parameters", "LoRA on parameters that are no layer's weight (target_parameters)"},
    {"trainable_token_indices", "an adapter with trained rows of the embedding (trainable_token_indices)"},
}};

// How training began: the base model's weights were changed, too.
constexpr std::array<std::string_view, 5> kChangesTheBase = {"pissa", "olora", "corda", "loftq", "lora_ga"};

bool IsSet(const ordered_json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  return !value.is_structured() || !value.empty();
}

class ConfigReader {
 public:
  ConfigReader(const ordered_json& json, const std::string& file) : json_(json), file_(file) {}

  Result<LoraConfig> Read() {
    SLUICE_TRY(RefuseOtherKinds());
    LoraConfig config;
    if (const ordered_json* r = Present("r")) {
      SLUICE_ASSIGN(config.rank, RankOf(*r, "r"));
    }
    if (const ordered_json* alpha = Present("lora_alpha")) {
      SLUICE_ASSIGN(config.alpha, NumberOf(*alpha, "lora_alpha"));
    }
    SLUICE_TRY(ReadFlag("use_rslora", &config.use_rslora));
    SLUICE_TRY(ReadFlag("fan_in_fan_out", &config.fan_in_fan_out));
    SLUICE_TRY(ReadPatterns("rank_pattern", &config.rank_pattern,
                            [this](const auto& value, auto key) { return RankOf(value, key); }));
    SLUICE_TRY(ReadPatterns("alpha_pattern", &config.alpha_pattern,
                            [this](const auto& value, auto key) { return NumberOf(value, key); }));
    if (const ordered_json* name = Present("base_model_name_or_path")) {
      if (!name->is_string()) return Corrupt("base_model_name_or_path", "text");
      config.base_model = name->get<std::string>();
    }
    if (const ordered_json* modules = Present("target_modules"); modules != nullptr && modules->is_array()) {
      for (const ordered_json& module : *modules) {
        if (!module.is_string()) return Corrupt("target_modules", "a list of names, or a pattern");
        config.target_modules.push_back(module.get<std::string>());
      }
    } else if (modules != nullptr && !modules->is_string()) {
      return Corrupt("target_modules", "a list of names, or a pattern");
    }
    return config;
  }

 private:
  // Null where it is missing or null.
  const ordered_json* Present(std::string_view key) const {
    const auto place = json_.find(key);
    return place == json_.end() || place->is_null() ? nullptr : &*place;
  }
  tl::unexpected<Error> Fails(ErrorCode code, std::string message) const {
    return Fail(Error{code, std::move(message), {file_}});
  }
  tl::unexpected<Error> Corrupt(std::string_view key, std::string_view wanted) const {
    return Fails(ErrorCode::kCorrupt, fmt::format("{} is not {}: fetch the adapter's files again, or mend the file",
                                                  Printable(key), wanted));
  }
  Result<uint64_t> RankOf(const ordered_json& value, std::string_view key) const {
    const auto rank = WholeNumber(value);
    if (!rank || *rank == 0) return Corrupt(key, "a whole number over 0");
    return *rank;
  }
  Result<double> NumberOf(const ordered_json& value, std::string_view key) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) return Corrupt(key, "a number");
    return value.get<double>();
  }
  Result<void> ReadFlag(std::string_view key, bool* flag) const {
    const ordered_json* value = Present(key);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return Corrupt(key, "true or false");
    *flag = value->get<bool>();
    return {};
  }
  template <class T>
  Result<void> ReadPatterns(std::string_view key, std::vector<std::pair<ModulePattern, T>>* patterns, auto read) const {
    const ordered_json* map = Present(key);
    if (map == nullptr) return {};
    if (!map->is_object() || map->size() > kMaxPatterns) return Corrupt(key, "an object of patterns and numbers");
    for (const auto& [pattern_key, value] : map->items()) {
      auto pattern = ModulePattern::Parse(pattern_key);
      if (!pattern) {
        return Fails(pattern.error().code,
                     fmt::format("{}: the pattern '{}' cannot be read: {}; write the modules' names instead", key,
                                 Printable(pattern_key), pattern.error().message));
      }
      SLUICE_ASSIGN(T number, read(value, fmt::format("{} of '{}'", key, pattern_key)));
      patterns->emplace_back(std::move(*pattern), number);
    }
    return {};
  }

  Result<void> RefuseOtherKinds() const {
    const ordered_json* type = Present("peft_type");
    if (type == nullptr || !type->is_string()) {
      return Fails(ErrorCode::kCorrupt,
                   "there is no peft_type, so this is no PEFT adapter's config: name the folder of "
                   "an adapter that PEFT saved");
    }
    constexpr std::string_view kInstead = "merge it into the model with PEFT's merge_and_unload() and name the result";
    if (const auto name = type->get<std::string>(); name != "LORA") {
      return Fails(ErrorCode::kUnsupported,
                   fmt::format("peft_type is {}; only LORA is supported: {}", Printable(name), kInstead));
    }
    for (const Variant& variant : kVariants) {
      const ordered_json* value = Present(variant.key);
      if (value == nullptr || !IsSet(*value)) continue;
      return Fails(ErrorCode::kUnsupported, fmt::format("{} is set: this is {}; it is not supported yet: {}",
                                                        variant.key, variant.what, kInstead));
    }
    if (const ordered_json* bias = Present("lora_bias"); bias != nullptr && IsSet(*bias)) {
      return Fails(
          ErrorCode::kUnsupported,
          fmt::format("lora_bias is set: an adapter with biases of its own is not supported yet: {}", kInstead));
    }
    if (const ordered_json* bias = Present("bias"); bias != nullptr) {
      constexpr std::array<std::string_view, 3> kKnown = {"none", "all", "lora_only"};
      if (!bias->is_string() || std::find(kKnown.begin(), kKnown.end(), bias->get<std::string>()) == kKnown.end()) {
        return Corrupt("bias", "none, all or lora_only");
      }
    }
    if (const ordered_json* init = Present("init_lora_weights"); init != nullptr && init->is_string()) {
      const auto name = init->get<std::string>();
      for (const std::string_view method : kChangesTheBase) {
        if (!name.starts_with(method)) continue;
        return Fails(ErrorCode::kUnsupported,
                     fmt::format("init_lora_weights is {}: training began by changing the base model's weights, which "
                                 "are not in this folder; save the adapter with PEFT's "
                                 "path_initial_model_for_weight_conversion, or {}",
                                 Printable(name), kInstead));
      }
    }
    return {};
  }

  const ordered_json& json_;
  const std::string& file_;
};

}  // namespace

struct ModulePattern::Expression {
  std::regex regex;
};

ModulePattern::ModulePattern() = default;
ModulePattern::~ModulePattern() = default;
ModulePattern::ModulePattern(ModulePattern&&) noexcept = default;
ModulePattern& ModulePattern::operator=(ModulePattern&&) noexcept = default;

Result<ModulePattern> ModulePattern::Parse(std::string_view key) {
  ModulePattern pattern;
  pattern.key_ = key;
  if (std::all_of(key.begin(), key.end(), [](char c) { return IsWordChar(c) || c == '.'; })) return pattern;
  if (auto refused = WhatIsRefused(key)) return Fail(ErrorCode::kUnsupported, std::move(*refused));
    // The standard library's matcher that does not go back, where there is one: its time is that of pattern times name.
#ifdef __GLIBCXX__
  constexpr auto kFlags = std::regex::ECMAScript | std::regex_constants::__polynomial;
#else
  constexpr auto kFlags = std::regex::ECMAScript;
#endif
  try {
    const std::regex alone(pattern.key_, kFlags);  // groups that close what they did not open
    pattern.expression_ = std::make_unique<Expression>();
    pattern.expression_->regex.assign(fmt::format("(?:.*\\.)?(?:{})", key), kFlags);
  } catch (const std::regex_error&) {
    return Fail(ErrorCode::kUnsupported, "it is not a regular expression that is understood here");
  }
  return pattern;
}

bool ModulePattern::Matches(std::string_view module) const {
  if (expression_ == nullptr) return MatchesPlainly(key_, module);
  try {
    return std::regex_match(module.begin(), module.end(), expression_->regex);
  } catch (const std::regex_error&) {  // no memory for the match
    return false;
  }
}

Result<LoraConfig> LoraConfig::Parse(std::string_view text, const std::string& file) {
  if (formats::Recognised other = formats::Recognise(text);
      other.kind == formats::FileKind::kLfsPointer || other.kind == formats::FileKind::kHtml) {
    return Fail(Error{ErrorCode::kCorrupt, std::move(other.message), {file}});
  }
  SLUICE_ASSIGN(const ordered_json json, formats::ParseJson(text, file));
  if (!json.is_object()) {
    return Fail(Error{ErrorCode::kCorrupt, "line 1, column 1: a config is an object, this is something else", {file}});
  }
  return ConfigReader(json, file).Read();
}

uint64_t LoraConfig::Rank(std::string_view module) const {
  const auto found = std::find_if(rank_pattern.begin(), rank_pattern.end(),
                                  [&](const auto& pattern) { return pattern.first.Matches(module); });
  return found == rank_pattern.end() ? rank : found->second;
}

float LoraConfig::Scale(std::string_view module) const {
  const auto found = std::find_if(alpha_pattern.begin(), alpha_pattern.end(),
                                  [&](const auto& pattern) { return pattern.first.Matches(module); });
  const double numerator = found == alpha_pattern.end() ? alpha : found->second;
  const auto r = static_cast<double>(Rank(module));
  return static_cast<float>(numerator / (use_rslora ? std::sqrt(r) : r));
}

bool LoraConfig::IsTarget(std::string_view module) const {
  if (target_modules.empty()) return true;
  return std::any_of(target_modules.begin(), target_modules.end(), [&](const std::string& target) {
    return module == target || (module.size() > target.size() && module.ends_with(target) &&
                                module[module.size() - target.size() - 1] == '.');
  });
}

}  // namespace sluice::checkpoint
