// What changed between two models, beyond which tensors: parts, layers, ranks, units in the last place, token rows,
// grids. Parts of verification_report.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/verification.h"

namespace sluice::report {

// Keys of a tensor: rank, units, rows, grid, place; those that apply.
void AddDetailsJson(const verify::TensorDiff& tensor, nlohmann::ordered_json* json);
// "8", "full", "noise", "-".
std::string RankText(const verify::TensorDiff& tensor);

// Keys of the summary: changes and grids.
void AddChangesJson(const verify::Verification& result, nlohmann::ordered_json* json);
// Lines of the text, each with a heading; empty where there is nothing to say.
std::string ChangesText(const verify::Verification& result);
// One line for each side that is dequantised.
std::string GridWarnings(const verify::Verification& result);
// Where the first difference is, for a run that stopped there.
std::string FirstDifferenceText(const verify::TensorDiff& tensor);

}  // namespace sluice::report
