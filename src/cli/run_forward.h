// RunForward: a pass of tokens through models, as every command does it: plan, progress, what it took.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/session.h"
#include "infer/forward_pass.h"

namespace sluice::cli {

infer::PassOptions MakePassOptions(Session& session);

// Shows the plan where a while is predicted, runs, and tells beside it what it took. `what` heads both ("logits").
Result<infer::PassStats> RunForward(Session& session, infer::ForwardPass& pass, infer::LogitSink* sink,
                                    const std::string& what);

// What the plan says, as text headed by `what` and as JSON.
std::string ForwardPlanText(const infer::PassPlan& plan, const std::string& what);
nlohmann::ordered_json ForwardPlanJson(const infer::PassPlan& plan);

// The plan alone: what --dry-run prints.
void PrintForwardPlan(Session& session, const infer::PassPlan& plan, const std::string& what);

}  // namespace sluice::cli
