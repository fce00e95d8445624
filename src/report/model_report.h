// Text and JSON of `digest`, `merge` and `convert`. docs/formats/json.md describes the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "report/results.h"
#include "verify/digest_manifest.h"

namespace sluice::report {

// The fields of a command's object; the caller puts "schema" before them.
nlohmann::ordered_json DigestJson(const DigestResult& result);
std::string DigestText(const DigestResult& result);

nlohmann::ordered_json ManifestCheckJson(const verify::ManifestCheck& check);
std::string ManifestCheckText(const verify::ManifestCheck& check);

std::string OverflowText(const TensorOverflow& overflow);  // "3 finite numbers became infinite in F16"
nlohmann::ordered_json ConvertJson(const WriteResult& result);
std::string ConvertText(const WriteResult& result);

nlohmann::ordered_json MergeJson(const MergeResult& result);
std::string MergeText(const MergeResult& result);

}  // namespace sluice::report
