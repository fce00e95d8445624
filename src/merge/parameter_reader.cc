#include "merge/parameter_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace sluice::merge {
namespace {

using Kind = YamlNode::Kind;

// A number as Python's float() reads a string, which is what casts a recipe's quoted numbers: blanks around it, a sign,
// digits with single underscores between them, an exponent.
std::optional<double> PythonFloat(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (text[i] == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    plain += text[i];
  }
  if (plain.starts_with('+') && !plain.starts_with("+-")) plain.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (end != plain.data() + plain.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string_view Wanted(ParameterType type) {
  switch (type) {
    case ParameterType::kNumber:
      return "a number";
    case ParameterType::kBool:
      return "true or false";
    case ParameterType::kBoolOrDensity:
      return "true, false or density";
  }
  return "";
}

bool IsCase(const YamlNode::Pointer& node) { return node->kind == Kind::kMapping; }

}  // namespace

std::string Quoted(const YamlNode& node) {
  return node.is_scalar() && node.kind != Kind::kNull ? fmt::format("'{}'", node.text) : KindName(node.kind);
}

ParameterSettings ParameterReader::Read(const YamlNode& node, ParameterScope scope) {
  ParameterSettings settings(method_ ? method_->parameters.size() : 0);
  if (node.kind != Kind::kMapping) {
    Error(node.mark, fmt::format("parameters wants a mapping of names and values, not {}", Quoted(node)));
    return settings;
  }
  if (ignore_) return settings;
  for (const YamlNode::Entry& entry : node.entries) {
    const std::string_view name = entry.key->text;
    const ParameterInfo* info = Find(name);
    if (!info) {
      UnknownParameter(*entry.key);
      continue;
    }
    if (scope == ParameterScope::kModel && info->scope == ParameterScope::kRecipe) {
      Error(entry.key->mark,
            fmt::format("'{}' is of the whole recipe: write it under 'parameters:' at the top level", name));
      continue;
    }
    ParameterSetting setting = ReadSetting(*entry.value, *info);
    if (!method_) continue;
    settings[method_->Index(name)] = std::move(setting);
    if (!info->used && std::find(noted_.begin(), noted_.end(), name) == noted_.end()) {
      noted_.push_back(name);
      diagnostics_->AddNote(entry.key->mark, fmt::format("{} does not use {}: {}", method_->name, name, info->help));
    }
  }
  return settings;
}

const ParameterInfo* ParameterReader::Find(std::string_view name) const {
  if (method_) return method_->Find(name);
  for (const Method* method : AllMethods()) {
    if (const ParameterInfo* info = method->Find(name)) return info;
  }
  return nullptr;
}

void ParameterReader::UnknownParameter(const YamlNode& key) {
  std::vector<std::string_view> known;
  std::vector<std::string_view> others;
  for (const Method* m : AllMethods()) {
    if (m->Find(key.text)) others.push_back(m->name);
    if (method_ && m != method_) continue;
    for (const ParameterInfo& info : m->parameters) known.push_back(info.name);
  }
  const std::string of = method_ ? fmt::format(" of {}", method_->name) : std::string();
  if (!others.empty()) {
    Error(key.mark, fmt::format("'{}' is no parameter{} (it is one of {})", key.text, of, fmt::join(others, ", ")));
    return;
  }
  const std::string meant = DidYouMean(key.text, known);
  Error(key.mark, fmt::format("unknown parameter '{}'{}{}", key.text, of,
                              meant.empty() && method_ ? fmt::format("; it has {}", fmt::join(known, ", ")) : meant));
}

// A number, a gradient, {filter, value}, or a list of those.
ParameterSetting ParameterReader::ReadSetting(const YamlNode& node, const ParameterInfo& info) {
  static constexpr std::array<std::string_view, 2> kKeys = {"filter", "value"};
  const bool is_list = node.kind == Kind::kSequence && std::ranges::any_of(node.items, IsCase);
  if (!is_list && node.kind != Kind::kMapping) return ParameterSetting({{std::nullopt, ReadValues(node, info)}});
  std::vector<ParameterSetting::Case> cases;
  const auto read_case = [&](const YamlNode& item) {
    ParameterSetting::Case c;
    for (const YamlNode::Entry& entry : item.entries) {
      const std::string_view key = entry.key->text;
      if (key == "filter" && entry.value->kind != Kind::kNull) {
        c.filter = entry.value->text;
        if (!entry.value->is_scalar()) {
          Error(entry.value->mark,
                fmt::format("a filter wants a part of a tensor's name, not {}", Quoted(*entry.value)));
        }
      } else if (key == "value") {
        c.values = ReadValues(*entry.value, info);
      } else if (key != "filter") {
        Error(entry.key->mark, fmt::format("unknown key '{}' beside a filter{}", key, DidYouMean(key, kKeys)));
      }
    }
    if (c.values.empty()) {
      Error(item.mark, fmt::format("{} wants {}, or {{filter, value}}, not a mapping without a value", info.name,
                                   Wanted(info.type)));
      c.values = {kBadValue};
    }
    if (!cases.empty() && (!cases.back().filter || *cases.back().filter == "*")) {
      diagnostics_->AddWarning(
          item.mark, fmt::format("no tensor's {} comes from here: what stands before it is for all", info.name));
    }
    cases.push_back(std::move(c));
  };
  if (node.kind == Kind::kMapping) {
    read_case(node);
  } else {
    for (const YamlNode::Pointer& item : node.items) {
      if (IsCase(item)) {
        read_case(*item);
      } else {
        Error(item->mark,
              fmt::format("{} mixes filters and bare values: write the value for all other tensors as '- value: {}'",
                          info.name, item->text));
      }
    }
  }
  return ParameterSetting(std::move(cases));
}

std::vector<double> ParameterReader::ReadValues(const YamlNode& node, const ParameterInfo& info) {
  if (node.kind != Kind::kSequence) return {ReadValue(node, info)};
  std::vector<double> values;
  for (const YamlNode::Pointer& item : node.items) values.push_back(ReadValue(*item, info));
  if (values.empty()) {
    Error(node.mark,
          fmt::format("{} wants {}, or several over the layers, not an empty list", info.name, Wanted(info.type)));
    values = {kBadValue};
  } else if (values.size() > 1 && info.type != ParameterType::kNumber) {
    Error(node.mark, fmt::format("{} wants {}, not a gradient over the layers", info.name, Wanted(info.type)));
  }
  return values;
}

double ParameterReader::ReadValue(const YamlNode& node, const ParameterInfo& info) {
  const auto fail = [&](std::string message) {
    Error(node.mark, std::move(message));
    return kBadValue;
  };
  const std::string_view wants = Wanted(info.type);
  double value = 0;
  switch (node.kind) {
    case Kind::kSequence:
    case Kind::kMapping:
      return fail(fmt::format("{} wants {}, not {}", info.name, wants, KindName(node.kind)));
    case Kind::kNull:
      return fail(fmt::format("{} has no value; it wants {}", info.name, wants));
    case Kind::kBool:
      value = node.boolean ? 1 : 0;
      break;
    case Kind::kInteger:
    case Kind::kFloat:
      value = node.number;
      break;
    default: {
      if (info.type == ParameterType::kBoolOrDensity && node.text == "density") return kDensityWord;
      const std::optional<double> number = PythonFloat(node.text);
      if (!number) return fail(fmt::format("{} wants {}, not '{}'", info.name, wants, node.text));
      value = *number;
    }
  }
  if (info.type != ParameterType::kNumber) {
    if (value != 0 && value != 1) return fail(fmt::format("{} wants {}, not {}", info.name, wants, Quoted(node)));
    return value;
  }
  if (!std::isfinite(value)) return fail(fmt::format("{} wants a finite number, not {}", info.name, Quoted(node)));
  if (value < info.min || value > info.max) {
    return fail(std::abs(value) > std::numeric_limits<float>::max()
                    ? fmt::format("{} {} is too large for f32", info.name, node.text)
                    : fmt::format("{} {} is outside {} to {}", info.name, node.text, info.min, info.max));
  }
  return value;
}

}  // namespace sluice::merge
