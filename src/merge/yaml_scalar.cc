// YAML 1.1's implicit types, after PyYAML's resolver: its regular expressions by hand. Timestamps and "=" stay strings.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "merge/yaml.h"

namespace sluice::merge {
namespace {

bool IsOneOf(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes characters of `set` from the front; returns how many.
size_t Take(std::string_view* text, std::string_view set) {
  const size_t n = std::min(text->find_first_not_of(set), text->size());
  text->remove_prefix(n);
  return n;
}
constexpr std::string_view kDigits = "0123456789", kDigitsAndUnderscore = "0123456789_";

std::string WithoutUnderscores(std::string_view text) {
  std::string result(text);
  std::erase(result, '_');
  return result;
}

double ToDouble(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    // from_chars leaves the value alone; Python gives infinity or zero.
    const size_t exponent = text.find_first_of("eE");
    const bool tiny = exponent != std::string_view::npos && text.substr(exponent + 1).starts_with('-');
    return tiny ? 0 : std::numeric_limits<double>::infinity();
  }
  return value;
}

// The digits of `base`, as a double and, where it fits, exactly.
void SetInteger(std::string_view digits, int base, bool negative, YamlNode* node) {
  node->kind = YamlNode::Kind::kInteger;
  uint64_t exact = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), exact, base);
  if (error == std::errc() && end == digits.data() + digits.size()) {
    node->number = static_cast<double>(exact);
    if (!negative || exact == 0) node->integer = exact;
  } else if (base == 10) {
    node->number = ToDouble(digits);
  } else {
    node->number = 0;
    for (const char c : digits) {
      const int digit = IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
      node->number = node->number * base + digit;
    }
  }
  if (negative) node->number = -node->number;
}

// [0-9][0-9_]* (":" [0-5]?[0-9])+ with a last part that is a fraction or not: numbers to base 60.
bool Sexagesimal(std::string_view text, bool negative, YamlNode* node) {
  const bool is_float = text.find('.') != std::string_view::npos;
  double value = 0;
  bool first = true;
  while (true) {
    const size_t colon = text.find(':');
    std::string_view part = text.substr(0, colon);
    std::string_view fraction = part;
    const size_t whole = Take(&fraction, first ? kDigitsAndUnderscore : kDigits);
    if (first) {
      if (whole == 0 || part[0] == '_' || !fraction.empty() || colon == std::string_view::npos) return false;
      if (!is_float && part[0] == '0') return false;
    } else {
      if (whole == 0 || whole > 2 || (whole == 2 && part[0] > '5')) return false;
      if (colon != std::string_view::npos && !fraction.empty()) return false;
      if (colon == std::string_view::npos && is_float) {
        if (fraction.empty() || fraction[0] != '.') return false;
        fraction.remove_prefix(1);
        Take(&fraction, kDigitsAndUnderscore);
      }
      if (!fraction.empty() && colon == std::string_view::npos) return false;
    }
    value = value * 60 + ToDouble(WithoutUnderscores(part));
    first = false;
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  node->kind = is_float ? YamlNode::Kind::kFloat : YamlNode::Kind::kInteger;
  node->number = negative ? -value : value;
  if (!is_float && !negative && value < 9007199254740992.0) node->integer = static_cast<uint64_t>(value);
  return true;
}

bool Integer(std::string_view text, bool negative, YamlNode* node) {
  std::string_view rest = text;
  if (text.starts_with("0b")) {
    rest.remove_prefix(2);
    if (Take(&rest, "01_") == 0 || !rest.empty()) return false;
    SetInteger(WithoutUnderscores(text.substr(2)), 2, negative, node);
  } else if (text.starts_with("0x")) {
    rest.remove_prefix(2);
    if (Take(&rest, "0123456789abcdefABCDEF_") == 0 || !rest.empty()) return false;
    SetInteger(WithoutUnderscores(text.substr(2)), 16, negative, node);
  } else if (text.size() > 1 && text[0] == '0') {
    rest.remove_prefix(1);
    if (Take(&rest, "01234567_") == 0 || !rest.empty()) return false;
    SetInteger(WithoutUnderscores(text.substr(1)), 8, negative, node);
  } else {
    if (text.empty() || !IsDigit(text[0])) return false;
    Take(&rest, kDigitsAndUnderscore);
    if (!rest.empty()) return false;
    SetInteger(WithoutUnderscores(text), 10, negative, node);
  }
  return true;
}

// Needs a dot; an exponent needs its sign. ".5" takes no sign before it: so PyYAML has it.
bool Float(std::string_view text, bool negative, bool signed_text, YamlNode* node) {
  std::string_view rest = text;
  if (!text.empty() && IsDigit(text[0])) {
    Take(&rest, kDigitsAndUnderscore);
    if (rest.empty() || rest[0] != '.') return false;
    rest.remove_prefix(1);
    Take(&rest, kDigitsAndUnderscore);
  } else {
    if (signed_text || text.size() < 2 || text[0] != '.' || !IsDigit(text[1])) return false;
    rest.remove_prefix(1);
    Take(&rest, kDigitsAndUnderscore);
  }
  if (!rest.empty()) {
    if (rest.size() < 3 || (rest[0] != 'e' && rest[0] != 'E') || (rest[1] != '+' && rest[1] != '-')) return false;
    rest.remove_prefix(2);
    if (Take(&rest, kDigits) == 0 || !rest.empty()) return false;
  }
  std::string plain = WithoutUnderscores(text);
  if (const size_t plus = plain.find('+'); plus != std::string::npos) plain.erase(plus, 1);
  node->kind = YamlNode::Kind::kFloat;
  node->number = negative ? -ToDouble(plain) : ToDouble(plain);
  return true;
}

}  // namespace

void ResolvePlainScalar(YamlNode* node) {
  const std::string_view text = node->text;
  using Kind = YamlNode::Kind;
  node->kind = Kind::kString;
  if (IsOneOf(text, {"", "~", "null", "Null", "NULL"})) {
    node->kind = Kind::kNull;
  } else if (IsOneOf(text, {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})) {
    node->kind = Kind::kBool;
    node->boolean = true;
  } else if (IsOneOf(text, {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})) {
    node->kind = Kind::kBool;
  } else {
    const bool has_sign = text[0] == '-' || text[0] == '+';
    const bool negative = text[0] == '-';
    const std::string_view rest = text.substr(has_sign ? 1 : 0);
    if (IsOneOf(rest, {".inf", ".Inf", ".INF"})) {
      node->kind = Kind::kFloat;
      node->number = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    } else if (!has_sign && IsOneOf(text, {".nan", ".NaN", ".NAN"})) {
      node->kind = Kind::kFloat;
      node->number = std::numeric_limits<double>::quiet_NaN();
    } else if (!rest.empty() && (IsDigit(rest[0]) || rest[0] == '.')) {
      if (!Float(rest, negative, has_sign, node) && !Integer(rest, negative, node)) Sexagesimal(rest, negative, node);
    }
  }
}

}  // namespace sluice::merge
