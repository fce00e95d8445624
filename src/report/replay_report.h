// Text and JSON of `verify --replay`. docs/formats/json.md describes the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/replay.h"

namespace sluice::report {

// `replay` of sluice/verify/v1.
nlohmann::ordered_json ReplayJson(const verify::Replay& replay);
// Whether it reproduces, on the first line; which models and which fields are not as recorded.
std::string ReplayText(const verify::Replay& replay, const nlohmann::ordered_json& result);

}  // namespace sluice::report
