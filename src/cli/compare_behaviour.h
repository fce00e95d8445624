// CompareBehaviour: `verify A B --level behaviour`: challenges, the commitment to them, two models over all of them,
// and what follows. docs/behaviour.md.
#pragma once

#include <optional>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"
#include "verify/sequential_test/sequential_decision.h"
#include "verify/verdict.h"

namespace sluice::cli {

// nullopt with --dry-run. What opening and reading may fail with; where challenges cannot be asked or scored (no common
// token, a prompt that does not encode alike, a NaN) there is an answer, and it is INVALID.
Result<std::optional<Verified>> CompareBehaviour(Session& session, const VerifyRequest& request);

// The outcome of a test as the verdict that asserts it; of a part, which decides nothing, UNDECIDED.
verify::Verdict VerdictOf(verify::sequential_test::Outcome outcome);

// kUsage for what is asked of it.
Result<void> CheckBehaviourRequest(const BehaviourRequest& request);

}  // namespace sluice::cli
