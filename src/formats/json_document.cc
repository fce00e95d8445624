#include "formats/json_document.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

#include "formats/json_reader.h"
#include "formats/json_text.h"

namespace sluice::formats {
namespace {

using nlohmann::ordered_json;

struct Problem {
  uint64_t offset = 0;
  std::string message;  // empty: none of ours, the reader's
};

// A list of the outermost object that is not kept.
struct Parts {
  std::string_view list;
  const std::function<void(ordered_json)>& on_element;
};

// Recursion is bounded by JsonReader::kMaxDepth.
bool ReadValue(JsonReader* reader, ordered_json* out, Problem* problem, const Parts* parts = nullptr);

bool HandOut(JsonReader* reader, const Parts& parts, ordered_json* list, Problem* problem) {
  *list = ordered_json::array();
  if (!reader->BeginArray()) return false;
  while (reader->NextElement()) {
    ordered_json element;
    if (!ReadValue(reader, &element, problem)) return false;
    parts.on_element(std::move(element));
  }
  return reader->ok();
}

bool ReadObject(JsonReader* reader, ordered_json* out, Problem* problem, const Parts* parts) {
  *out = ordered_json::object();
  auto& members = out->get_ref<ordered_json::object_t&>();
  std::set<std::string, std::less<>> keys;
  std::string_view key;
  if (!reader->BeginObject()) return false;
  while (reader->NextKey(&key)) {
    const auto [place, is_new] = keys.emplace(key);
    if (!is_new) {
      *problem = {reader->token(), fmt::format("the key \"{}\" stands here a second time", key)};
      return false;
    }
    // Past ordered_map's own emplace, which would look at every member again.
    auto& vector = static_cast<ordered_json::object_t::Container&>(members);
    ordered_json value;
    const bool in_parts = parts != nullptr && *place == parts->list && reader->Peek() == JsonType::kArray;
    if (!(in_parts ? HandOut(reader, *parts, &value, problem) : ReadValue(reader, &value, problem))) return false;
    vector.emplace_back(*place, std::move(value));
  }
  return reader->ok();
}

bool ReadNumber(JsonReader* reader, ordered_json* out, Problem* problem) {
  JsonNumber number;
  if (!reader->Number(&number)) return false;
  const char* begin = number.text.data();
  const char* end = begin + number.text.size();
  if (number.is_integer) {
    if (uint64_t value; std::from_chars(begin, end, value).ec == std::errc()) {
      *out = value;
      return true;
    }
    if (int64_t value; std::from_chars(begin, end, value).ec == std::errc()) {
      *out = value;
      return true;
    }
  }
  double value = 0;
  const std::errc error = std::from_chars(begin, end, value).ec;
  // from_chars says the same of a number too large and of one that rounds to zero; strtod tells them apart.
  if (error == std::errc::result_out_of_range) {
    value = std::strtod(std::string(number.text).c_str(), nullptr);
    if (std::isinf(value)) {
      *problem = {reader->token(), fmt::format("{} is beyond the range of a double", number.text)};
      return false;
    }
  }
  *out = value;
  return true;
}

bool ReadValue(JsonReader* reader, ordered_json* out, Problem* problem, const Parts* parts) {
  switch (const JsonType type = reader->Peek()) {
    case JsonType::kNone:
      return false;
    case JsonType::kObject:
      return ReadObject(reader, out, problem, parts);
    case JsonType::kArray: {
      *out = ordered_json::array();
      if (!reader->BeginArray()) return false;
      while (reader->NextElement()) {
        out->push_back(nullptr);
        if (!ReadValue(reader, &out->back(), problem)) return false;
      }
      return reader->ok();
    }
    case JsonType::kString: {
      std::string_view text;
      if (!reader->String(&text)) return false;
      *out = std::string(text);
      return true;
    }
    case JsonType::kNumber:
      return ReadNumber(reader, out, problem);
    default:
      if (type == JsonType::kNull) {
        *out = nullptr;
      } else {
        *out = type == JsonType::kTrue;
      }
      return reader->Literal();
  }
}

Result<ordered_json> Parse(std::string_view text, const std::string& file, const Parts* parts) {
  JsonReader reader(text);
  ordered_json document;
  Problem problem;
  if (ReadValue(&reader, &document, &problem, parts) && reader.End()) return document;
  if (problem.message.empty()) problem = {reader.offset(), reader.message()};
  const LineColumn place = LineColumnAt(text, problem.offset);
  return Fail(Error{
      ErrorCode::kCorrupt, fmt::format("line {}, column {}: {}", place.line, place.column, problem.message), {file}});
}

}  // namespace

Result<ordered_json> ParseJson(std::string_view text, const std::string& file) { return Parse(text, file, nullptr); }

Result<ordered_json> ParseJsonInParts(std::string_view text, const std::string& file, std::string_view list,
                                      const std::function<void(ordered_json)>& on_element) {
  const Parts parts{list, on_element};
  return Parse(text, file, &parts);
}

}  // namespace sluice::formats
