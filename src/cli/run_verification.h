// RunVerification: whatever `verify` was asked for, done; nothing is printed but plan and progress.
#pragma once

#include <optional>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"

namespace sluice::cli {

// nullopt with --dry-run.
Result<std::optional<Verified>> RunVerification(Session& session, const VerifyRequest& request);

}  // namespace sluice::cli
