#include "formats/json_text.h"

namespace sluice::formats {
namespace {

using nlohmann::ordered_json;

// A value within others: its lines begin with `spaces` more. No string has a line end in it that is not escaped.
void WriteIndented(const ordered_json& json, size_t spaces, const std::function<void(std::string_view)>& out) {
  const std::string text = JsonText(json, 2), margin(spaces, ' ');
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) {
      out(std::string_view(text).substr(at));
      return;
    }
    out(std::string_view(text).substr(at, end + 1 - at));
    out(margin);
    at = end + 1;
  }
}

}  // namespace

std::string JsonText(const ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

void WriteJson(const LongObject& object, const std::function<void(std::string_view)>& out) {
  if (object.json.empty()) {
    out("{}");
    return;
  }
  bool is_first = true;
  for (const auto& [key, value] : object.json.items()) {
    out(is_first ? "{\n  " : ",\n  ");
    is_first = false;
    out(JsonText(key, -1));
    out(": ");
    if (object.list.empty() || key != object.list || object.size == 0) {
      WriteIndented(value, 2, out);
      continue;
    }
    for (uint64_t i = 0; i < object.size; ++i) {
      out(i == 0 ? "[\n    " : ",\n    ");
      WriteIndented(object.element(i), 4, out);
    }
    out("\n  ]");
  }
  out("\n}");
}

ordered_json WholeObject(const LongObject& object) {
  ordered_json json = object.json;
  for (uint64_t i = 0; i < object.size; ++i) json[object.list].push_back(object.element(i));
  return json;
}

}  // namespace sluice::formats
