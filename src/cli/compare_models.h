// CompareModels: two models side by side, or one against the fingerprint of another, at the level that was asked for.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"

namespace sluice::cli {

// Of the forms kModels and kFingerprint. nullopt with --dry-run. kCorrupt where a file changed meanwhile, and what
// opening and reading may fail with.
Result<std::optional<Verified>> CompareModels(Session& session, const VerifyRequest& request);

// A model to be looked at, with warnings of what is odd about it.
Result<VerifiedSide> OpenSide(Session& session, const VerifySide& side, const std::string& name);

// The result with what it took, as it is printed.
Verified Answer(const Session& session, verify::Verification result);

// The page of a comparison of two models.
std::string PageOf(const Verified& verified);

}  // namespace sluice::cli
