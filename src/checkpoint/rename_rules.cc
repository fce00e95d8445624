#include "checkpoint/rename_rules.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "formats/json_document.h"
#include "formats/json_reader.h"
#include "io/byte_source.h"

namespace sluice::checkpoint {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;

std::string Text(const RenameRule& rule) {
  return fmt::format("{}{}{}={}", rule.source, rule.source == "--rename" ? " " : ": ", rule.from, rule.to);
}

// One part between dots. Each star takes as little as lets the literal behind it follow, the last one what is left:
// with nothing but stars and literals, this finds a match wherever there is one.
bool MatchPart(std::string_view pattern, std::string_view text, std::vector<std::string_view>* stars) {
  size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  for (;;) {
    pattern.remove_prefix(star + 1);
    star = pattern.find('*');
    const std::string_view literal = pattern.substr(0, star);
    if (star == std::string_view::npos) {
      if (text.size() <= literal.size() || !text.ends_with(literal)) return false;
      stars->push_back(text.substr(0, text.size() - literal.size()));
      return true;
    }
    if (text.empty()) return false;
    const size_t at = text.find(literal, 1);
    if (at == std::string_view::npos) return false;
    stars->push_back(text.substr(0, at));
    text.remove_prefix(at + literal.size());
  }
}

// What the stars stand for. No star takes a dot, so the parts between dots match one by one.
std::optional<std::vector<std::string_view>> Match(std::string_view pattern, std::string_view name) {
  std::vector<std::string_view> stars;
  for (;;) {
    const size_t pattern_dot = pattern.find('.'), name_dot = name.find('.');
    if ((pattern_dot == std::string_view::npos) != (name_dot == std::string_view::npos)) return std::nullopt;
    if (!MatchPart(pattern.substr(0, pattern_dot), name.substr(0, name_dot), &stars)) return std::nullopt;
    if (pattern_dot == std::string_view::npos) return stars;
    pattern.remove_prefix(pattern_dot + 1);
    name.remove_prefix(name_dot + 1);
  }
}

}  // namespace

Result<void> CheckRule(const RenameRule& rule) {
  if (rule.from.empty() || rule.to.empty()) return Fail(ErrorCode::kUsage, Text(rule) + ": a name is empty");
  if (std::ranges::count(rule.to, '*') > std::ranges::count(rule.from, '*')) {
    return Fail(ErrorCode::kUsage,
                Text(rule) +
                    ": the new name has more stars than the old one; each stands for what one of the old "
                    "name's stood for");
  }
  return {};
}

Result<RenameRule> ParseRename(std::string_view text) {
  if (formats::FirstInvalidUtf8(text)) return Fail(ErrorCode::kUsage, "--rename: the names are not UTF-8");
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return Fail(ErrorCode::kUsage, fmt::format("--rename {}: write --rename OLD=NEW", text));
  }
  RenameRule rule{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)), "--rename"};
  SLUICE_TRY(CheckRule(rule));
  return rule;
}

Result<std::vector<RenameRule>> ReadRenameFile(const std::string& path) {
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path, kMaxFileBytes));
  auto json = formats::ParseJson(text, path);
  if (!json) {
    json.error().code = ErrorCode::kUsage;
    return Fail(std::move(json.error()));
  }
  if (!json->is_object() || json->empty()) {
    return FailIn(ErrorCode::kUsage, path, "rules for renaming are a JSON object, {\"old name\": \"new name\", ...}");
  }
  std::vector<RenameRule> rules;
  for (const auto& [from, to] : json->items()) {
    if (!to.is_string()) {
      return FailIn(ErrorCode::kUsage, path,
                    fmt::format("the new name of {} is {}, not a string", from, to.type_name()));
    }
    rules.push_back({from, to.get<std::string>(), path});
    SLUICE_TRY(CheckRule(rules.back()));
  }
  return rules;
}

std::optional<std::string> Renamed(const RenameRule& rule, std::string_view name) {
  const auto stars = Match(rule.from, name);
  if (!stars) return std::nullopt;
  std::string renamed;
  size_t star = 0;
  for (const char c : rule.to) {
    if (c == '*') {
      renamed += (*stars)[star++];
    } else {
      renamed += c;
    }
  }
  return renamed;
}

Result<std::vector<std::string>> RenamedTensors(const Catalogue& tensors, std::span<const RenameRule> rules) {
  std::vector<std::string> names;
  names.reserve(tensors.size());
  std::vector<bool> used(rules.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    names.emplace_back(tensors[i].name);
    for (size_t rule = 0; rule < rules.size(); ++rule) {
      auto renamed = Renamed(rules[rule], tensors[i].name);
      if (!renamed) continue;
      used[rule] = true;
      names.back() = std::move(*renamed);
      break;
    }
  }
  for (size_t rule = 0; rule < rules.size(); ++rule) {
    if (used[rule]) continue;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!Renamed(rules[rule], tensors[i].name)) continue;
      return Fail(ErrorCode::kUsage,
                  fmt::format("{}: what it matches, {} for one, is renamed by a rule before it; the first that matches "
                              "wins",
                              Text(rules[rule]), tensors[i].name));
    }
    return Fail(
        ErrorCode::kUsage,
        fmt::format("{}: no tensor has such a name; `sluice inspect REF --tensors` lists them", Text(rules[rule])));
  }
  std::unordered_map<std::string_view, size_t> taken;
  taken.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "__metadata__") {
      return Fail(ErrorCode::kUsage,
                  fmt::format("{} cannot be renamed to {}: safetensors reserves that name", tensors[i].name, names[i]));
    }
    const auto [place, is_new] = taken.try_emplace(names[i], i);
    if (is_new) continue;
    return Fail(ErrorCode::kUsage, fmt::format("two tensors would be named {}: {} and {}; rename one of them otherwise",
                                               names[i], tensors[place->second].name, tensors[i].name));
  }
  return names;
}

}  // namespace sluice::checkpoint
