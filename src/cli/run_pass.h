// RunPass: one pass of groups of tensors through sinks, as every command does it: plan, progress, what it took.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "cli/session.h"
#include "stream/sink.h"
#include "stream/stream.h"

namespace sluice::cli {

// The plan is shown where more than this is predicted.
constexpr double kShowPlanSeconds = 2;

struct PassReport {
  bool ran = false;  // false with --dry-run: nothing was read
  stream::Plan plan;
  stream::StreamStats stats;
  double seconds = 0;
  graph::FactRecords facts;  // all that are known when it has ended
};

// `what` heads the plan and the progress ("merge"). With --dry-run only plans,
// and prints the plan: to stderr as text, with --json to stdout. The sinks' End has been called when it returns without
// an error. `known_facts`: of an earlier pass over the same, StreamOptions.
Result<PassReport> RunPass(Session& session, const stream::GroupSource& groups, std::span<stream::Sink* const> sinks,
                           const std::string& what, graph::FactRecords known_facts = {});

// The plan alone, for --dry-run where sinks would open files: what they want is said in `wants`.
Result<PassReport> PlanPass(Session& session, const stream::GroupSource& groups, const stream::Wants& wants,
                            const std::string& what);

std::string PlanText(const stream::Plan& plan, const stream::Wants& wants, const std::string& what);
nlohmann::ordered_json PlanJson(const stream::Plan& plan, const stream::Wants& wants);

}  // namespace sluice::cli
