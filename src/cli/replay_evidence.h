// ReplayEvidence: `verify --replay DIR [REF...]`: the bundle is held against itself, what it holds is done again, and
// the two are compared.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/session.h"

namespace sluice::cli {

// Prints; 0 where all of it reproduces, 1 where it does not. kCorrupt where the bundle was tampered with; what opening
// and reading the models may fail with.
Result<int> ReplayEvidence(Session& session, const std::string& folder, const std::vector<std::string>& refs);

}  // namespace sluice::cli
