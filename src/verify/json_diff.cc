#include "verify/json_diff.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

namespace sluice::verify {
namespace {

using nlohmann::json;

void Flatten(const json& value, const std::string& prefix, std::map<std::string, std::string>* flat) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, inner] : value.items()) {
      Flatten(inner, prefix.empty() ? key : prefix + "." + key, flat);
    }
  } else {
    flat->emplace(prefix, value.dump(-1, ' ', false, json::error_handler_t::replace));
  }
}

std::map<std::string, std::string> FlattenText(std::string_view text) {
  std::map<std::string, std::string> flat;
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object() && !parsed.empty()) Flatten(parsed, "", &flat);
  return flat;
}

}  // namespace

std::vector<KeyDifference> DiffJson(std::string_view a, std::string_view b) {
  const auto flat_a = FlattenText(a), flat_b = FlattenText(b);
  std::vector<KeyDifference> differences;
  for (const auto& [key, value] : flat_a) {
    const auto other = flat_b.find(key);
    if (other == flat_b.end()) {
      differences.push_back({key, value, ""});
    } else if (other->second != value) {
      differences.push_back({key, value, other->second});
    }
  }
  for (const auto& [key, value] : flat_b) {
    if (!flat_a.contains(key)) differences.push_back({key, "", value});
  }
  std::ranges::sort(differences, {}, &KeyDifference::key);
  return differences;
}

}  // namespace sluice::verify
