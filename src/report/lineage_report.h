// Text and JSON of `lineage`. docs/formats/json.md describes the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/lineage.h"

namespace sluice::report {

nlohmann::ordered_json LineageJson(const verify::Lineage& lineage);
// The first line says what MODEL is. Layers as a table and as lines of shades.
std::string LineageText(const verify::Lineage& lineage);

}  // namespace sluice::report
