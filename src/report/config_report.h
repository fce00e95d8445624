// Text and JSON of what two models' headers, configs and tokenizers have in common: parts of what `verify` prints.
// docs/formats/json.md describes the fields.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "report/table.h"
#include "verify/config_diff.h"

namespace sluice::report {

constexpr size_t kMostRows = 20;  // of a list in text; JSON has all
// "... and 7 more" below it, where a list of `count` rows was cut.
void NoteMore(size_t count, Table* table);

nlohmann::ordered_json ConfigJson(const verify::ConfigDiff& config);
// A row each of config, tokenizer, headers and encodings: what was found, what an agreement proves and does not.
void AddConfigRows(const verify::ConfigDiff& config, Table* table);
// What differs, some of them empty; with_parts: also parameters by part where they are the same.
std::vector<Table> ConfigTables(const verify::ConfigDiff& config, bool with_parts);

}  // namespace sluice::report
