// What changed between two models, beyond which tensors: parts, layers, ranks, units in the last place, token rows,
// grids. Parts of verification_report and verification_page.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "report/table.h"
#include "verify/verification.h"

namespace sluice::report {

// Keys of a tensor: rank, units, rows, grid, place; those that apply.
void AddDetailsJson(const verify::TensorDiff& tensor, nlohmann::ordered_json* json);
// "8", "few", "full", "noise", "-".
std::string RankText(const verify::TensorDiff& tensor);

// Keys of the summary: changes and grids.
void AddChangesJson(const verify::Verification& result, nlohmann::ordered_json* json);
// A heading and a sentence each: the changes as a whole, where they are, in which units, in which token rows; those
// that there is something to say about.
struct ChangeLine {
  std::string heading, text;
};
std::vector<ChangeLine> ChangeLines(const verify::Verification& result);
// Where the first difference is, for a run that stopped there.
std::vector<ChangeLine> FirstDifferenceLines(const verify::TensorDiff& tensor);
// One sentence for each side that is dequantised.
std::vector<std::string> GridWarnings(const verify::Verification& result);
// "  heading         text", for terminals.
std::string TextOf(const std::vector<ChangeLine>& lines);

// Of changed matrices, by kind: what was found of the rank of their changes. Empty where none was looked at.
Table RankTable(const verify::Verification& result);
// Of sides with a matrix on a grid: how many matrices are on which.
Table GridTable(const verify::Verification& result);
// "1", "3 to 4": the distances of a bucket of UnitDistances.
std::string UnitBucketText(int bucket);

}  // namespace sluice::report
