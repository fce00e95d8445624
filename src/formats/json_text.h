// LongObject: a JSON object that would take much memory as values: one list in it has thousands of elements, which are
// made as they are written.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace sluice::formats {

struct LongObject {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();  // with an empty list under `list`
  std::string list = {};                                           // its key; empty: all of the object is in `json`
  uint64_t size = 0;                                               // of the list
  std::function<nlohmann::ordered_json(uint64_t)> element = {};    // its i-th; may be asked for again
};

// Of bytes that are no UTF-8 each becomes U+FFFD.
std::string JsonText(const nlohmann::ordered_json& json, int indent);

// Hands out, in pieces, what JsonText(json, 2) would be with all elements in their list.
void WriteJson(const LongObject& object, const std::function<void(std::string_view)>& out);

// The object with all of it, in memory.
nlohmann::ordered_json WholeObject(const LongObject& object);

// What ParseJson (json_document.h) gives of an outermost object with a list too long to be held: its elements go to
// `on_element`, one by one, and the list stays empty in the result. Elements may have been handed out when an error is
// met behind them.
Result<nlohmann::ordered_json> ParseJsonInParts(std::string_view text, const std::string& file, std::string_view list,
                                                const std::function<void(nlohmann::ordered_json)>& on_element);

}  // namespace sluice::formats
