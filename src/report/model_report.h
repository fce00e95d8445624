// Text and JSON of `digest`, `merge` and `convert`. docs/formats/json.md describes the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "report/results.h"

namespace sluice::report {

// The fields of a command's object; the caller puts "schema" before them.
nlohmann::ordered_json DigestJson(const DigestResult& result);
std::string DigestText(const DigestResult& result);

nlohmann::ordered_json ManifestCheckJson(const ManifestCheck& check);
std::string ManifestCheckText(const ManifestCheck& check);

// A manifest (`digest -o`) with one of now. kCorrupt where the text is no manifest. Reads no weight.
Result<ManifestCheck> CheckManifest(const checkpoint::ModelDigest& digest, const std::string& manifest,
                                    std::string_view text);

std::string OverflowText(const TensorOverflow& overflow);  // "3 finite numbers became infinite in F16"
nlohmann::ordered_json ConvertJson(const WriteResult& result);
std::string ConvertText(const WriteResult& result);

nlohmann::ordered_json MergeJson(const MergeResult& result);
std::string MergeText(const MergeResult& result);

}  // namespace sluice::report
