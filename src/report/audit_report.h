// What `verify MERGED --sample p --facts q` found, as JSON and as text.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/verification.h"

namespace sluice::report {

nlohmann::ordered_json AuditJson(const verify::MergeAudit& audit);
std::string AuditText(const verify::MergeAudit& audit);

}  // namespace sluice::report
