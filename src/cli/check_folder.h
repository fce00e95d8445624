// CheckFolder: one folder held against papers of its own: the statement of a merge, a signature, or both in one read.
#pragma once

#include <optional>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"

namespace sluice::cli {

// Of the forms kStatement, where the folder must have a statement (sluice_merge.json), and kSignature, where one is
// checked too if there is one. nullopt with --dry-run.
Result<std::optional<Verified>> CheckFolder(Session& session, const VerifyRequest& request);

}  // namespace sluice::cli
