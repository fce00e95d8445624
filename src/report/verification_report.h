// Text and JSON of `verify`. docs/formats/json.md describes the fields.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "formats/json_text.h"
#include "report/table.h"
#include "verify/verification.h"

namespace sluice::report {

// The fields of the object; the caller puts "schema" before them.
// The tensors are made as they are written.
formats::LongObject VerificationObject(const std::shared_ptr<const verify::Verification>& result);
nlohmann::ordered_json VerificationJson(const verify::Verification& result);  // all of it
// The verdict on the first line; then a table of what each level found, proves and does not prove; then what differs.
std::string VerificationText(const verify::Verification& result);
// Its tables: a row for each level with what was found, what an agreement proves and does not prove; and the tensors
// that differ, the largest changes first.
Table LevelsTable(const verify::Verification& result);
Table TensorTable(const verify::Verification& result);

nlohmann::ordered_json StatementCheckJson(const verify::StatementCheck& result);
std::string StatementCheckText(const verify::StatementCheck& result);

}  // namespace sluice::report
