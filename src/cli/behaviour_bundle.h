// Bundles of the level `behaviour`: whether one agrees with itself, and parts of a run joined to the run.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "cli/session.h"
#include "verify/evidence.h"

namespace sluice::cli {

// The key, the terms and what was committed to must be one thing wherever they stand in a bundle of that form.
// `result`: the evidence's, without the list of tensors. kCorrupt.
Result<void> CheckCommitment(const verify::Evidence& evidence, const nlohmann::ordered_json& result,
                             const std::string& folder);

struct JoinRequest {
  std::vector<std::string> folders;  // bundles of --part, in any order
  std::string report, evidence;      // to write; empty: not
  bool force = false;
};

// `verify --join DIR...`: all parts of one run, combined to what the run would have said: the same scores in the same
// order, so the same capital, verdict and JSON but for what it took. Reads no model. Prints; the verdict's exit status.
// kUsage, naming the folder: a part that is missing, there twice, of another run, or no part; kCorrupt: one that was
// changed.
Result<int> JoinParts(Session& session, const JoinRequest& request);

}  // namespace sluice::cli
