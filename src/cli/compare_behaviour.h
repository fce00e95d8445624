// CompareBehaviour: `verify A B --level behaviour`: challenges, the commitment to them, two models over all of them,
// and what follows. docs/behaviour.md.
#pragma once

#include <optional>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"
#include "verify/behaviour/behaviour_result.h"

namespace sluice::cli {

// nullopt with --dry-run. What opening and reading may fail with; where challenges cannot be asked or scored (no common
// token, a prompt that does not encode alike, a NaN) there is an answer, and it is INVALID.
Result<std::optional<Verified>> CompareBehaviour(Session& session, const VerifyRequest& request);

// Of a part, which decides nothing, UNDECIDED.
verify::Verdict VerdictOf(const verify::behaviour::BehaviourResult& behaviour);

// kUsage for what is asked of it.
Result<void> CheckBehaviourRequest(const BehaviourRequest& request);

}  // namespace sluice::cli
