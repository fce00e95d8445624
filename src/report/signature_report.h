// Text and JSON of `verify --signature` and `sign`. docs/formats/json.md describes the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/signature_check.h"

namespace sluice::report {

nlohmann::ordered_json SignatureCheckJson(const verify::SignatureCheck& check);
std::string SignatureCheckText(const verify::SignatureCheck& check);

nlohmann::ordered_json SigningJson(const verify::SigningResult& result);
std::string SigningText(const verify::SigningResult& result);

}  // namespace sluice::report
