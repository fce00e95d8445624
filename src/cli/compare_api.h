// CompareApi: `verify A B --level behaviour` where a side is a model behind a server (api+https://host/v1#model): what
// the servers say beside what the local model computes, or beside each other. docs/api_models.md.
//
// Locally all challenges pass at once, and of each position the likeliest tokens are kept; servers are then asked
// challenge by challenge, in the order committed to, until the test has decided: each request costs.
#pragma once

#include <optional>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"

namespace sluice::cli {

bool HasApiSide(const VerifyRequest& request);

// nullopt with --dry-run, which probes the servers and asks no challenge. Whatever a server does wrong (lies, breaks
// off, does not answer) is an answer: INVALID. kUnsupported for a server that tells no probabilities, and for what is
// not done with servers: evidence, parts.
Result<std::optional<Verified>> CompareApi(Session& session, const VerifyRequest& request);

}  // namespace sluice::cli
