// What the level `fingerprint` found, and a fingerprint that was kept, as text and JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "report/table.h"
#include "verify/sample_result.h"

namespace sluice::report {

// `fingerprint` of sluice/verify/v1 (docs/formats/json.md).
nlohmann::ordered_json SampleJson(const verify::SampleResult& sample);
// For the table of a verification: what was found in how many blocks.
std::string SampleFinding(const verify::SampleResult& sample);
// Statistics, and the tensors that differ.
std::vector<Table> SampleTables(const verify::SampleResult& sample);

// `sluice fingerprint`.
struct FingerprintResult {
  std::string ref, output;
  std::string nonce;
  verify::SampleAim aim;
  uint64_t tensors = 0, num_draws = 0, blocks = 0, all_blocks = 0;
  std::vector<verify::SampleRow> rows;  // of the one side, as `a`
  double seconds = 0;
  uint64_t bytes_read = 0, budget_bytes = 0, peak_bytes = 0;
};
nlohmann::ordered_json FingerprintJson(const FingerprintResult& result);
std::string FingerprintText(const FingerprintResult& result);

}  // namespace sluice::report
