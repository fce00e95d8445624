// A small JSON file as a document: strict as JsonReader is, and no key twice. For config.json and its like.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace sluice::formats {

// Keys keep their order. Integers outside of [-2^63, 2^64) become the nearest double, as do all other numbers; one
// above the largest double is refused. kCorrupt with `file` as context, and line and column.
Result<nlohmann::ordered_json> ParseJson(std::string_view text, const std::string& file);

}  // namespace sluice::formats
