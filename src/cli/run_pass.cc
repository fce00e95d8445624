#include "cli/run_pass.h"

#include <chrono>
#include <cstdio>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "base/units.h"
#include "cli/progress_view.h"

namespace sluice::cli {
namespace {

using Clock = std::chrono::steady_clock;

Result<std::unique_ptr<stream::Stream>> OpenStream(Session& session, const stream::GroupSource& groups,
                                                   const stream::Wants& wants, graph::FactRecords known_facts) {
  stream::StreamOptions options;
  options.known_facts = std::move(known_facts);
  options.num_threads = session.options.threads;
  options.wants = wants;
  options.budget = &session.budget;
  options.cancelled = &session.cancelled;
  return stream::Stream::Open(groups, options);
}

void ShowPlan(Session& session, const stream::Plan& plan, const stream::Wants& wants, const std::string& what) {
  if (session.options.dry_run) {
    nlohmann::ordered_json json;
    json["dry_run"] = true;
    json["plan"] = PlanJson(plan, wants);
    session.Print(json, PlanText(plan, wants, what));
  } else if (!session.options.quiet && plan.seconds > kShowPlanSeconds) {
    fmt::print(stderr, "{}", PlanText(plan, wants, what));
  }
}

}  // namespace

std::string PlanText(const stream::Plan& plan, const stream::Wants& wants, const std::string& what) {
  std::string text = fmt::format("{}: {} tensors in {} groups, about {}\n", what, plan.num_tensors, plan.num_groups,
                                 FormatSeconds(plan.seconds));
  text += fmt::format("  read     {}", FormatBytes(plan.read_bytes));
  if (plan.read_bytes > plan.payload_bytes) {
    text += fmt::format(" ({} once, {} again: facts of whole tensors come first)", FormatBytes(plan.payload_bytes),
                        FormatBytes(plan.read_bytes - plan.payload_bytes));
  }
  text += fmt::format(" by {}", plan.reader);
  if (plan.read_bytes_per_second > 0) text += fmt::format(" at {}", FormatRate(plan.read_bytes_per_second));
  text += fmt::format("\n  compute  {}", FormatBytes(plan.out_bytes));
  text +=
      fmt::format(" on {} {}, {} of I/O, {} of CPU\n", plan.num_threads, plan.num_threads == 1 ? "thread" : "threads",
                  FormatSeconds(plan.io_seconds), FormatSeconds(plan.cpu_seconds));
  if (wants.write_bytes > 0) text += fmt::format("  write    {}\n", FormatBytes(wants.write_bytes));
  text += fmt::format("  memory   {} at most of {}, in tiles of {}\n", FormatMemory(plan.peak_bytes),
                      FormatMemory(plan.budget_bytes), FormatMemory(plan.tile_bytes));
  return text;
}

nlohmann::ordered_json PlanJson(const stream::Plan& plan, const stream::Wants& wants) {
  nlohmann::ordered_json json;
  json["tensors"] = plan.num_tensors;
  json["groups"] = plan.num_groups;
  json["payload_bytes"] = plan.payload_bytes;
  json["bytes_read"] = plan.read_bytes;
  json["bytes_computed"] = plan.out_bytes;
  json["bytes_written"] = wants.write_bytes;
  json["tile_bytes"] = plan.tile_bytes;
  json["peak_memory_bytes"] = plan.peak_bytes;
  json["budget_bytes"] = plan.budget_bytes;
  json["threads"] = plan.num_threads;
  json["reader"] = plan.reader;
  json["read_bytes_per_second"] = plan.read_bytes_per_second;
  json["io_seconds"] = plan.io_seconds;
  json["cpu_seconds"] = plan.cpu_seconds;
  json["seconds"] = plan.seconds;
  return json;
}

Result<PassReport> PlanPass(Session& session, const stream::GroupSource& groups, const stream::Wants& wants,
                            const std::string& what) {
  SLUICE_ASSIGN(const auto stream, OpenStream(session, groups, wants, {}));
  PassReport report;
  report.plan = stream->plan();
  ShowPlan(session, report.plan, wants, what);
  return report;
}

Result<PassReport> RunPass(Session& session, const stream::GroupSource& groups, std::span<stream::Sink* const> sinks,
                           const std::string& what, graph::FactRecords known_facts) {
  const stream::Wants wants = stream::Together(sinks);
  if (session.options.dry_run) return PlanPass(session, groups, wants, what);

  SLUICE_ASSIGN(const auto stream, OpenStream(session, groups, wants, std::move(known_facts)));
  PassReport report;
  report.plan = stream->plan();
  ShowPlan(session, report.plan, wants, what);

  const Clock::time_point started = Clock::now();
  {
    ProgressView view(StyleOf(session.options.quiet), what, report.plan.read_bytes);
    Result<void> pumped = stream::Pump(*stream, sinks, &view);
    if (!pumped && session.cancelled && pumped.error().code == ErrorCode::kCancelled) {
      pumped.error().message = "interrupted; resuming is not supported yet, so run the command again";
    }
    SLUICE_TRY(std::move(pumped));
  }
  report.ran = true;
  report.stats = stream->stats();
  report.facts = stream->facts();
  report.seconds = std::chrono::duration<double>(Clock::now() - started).count();
  if (!session.options.quiet && (report.plan.seconds > kShowPlanSeconds || report.seconds > kShowPlanSeconds)) {
    fmt::print(stderr, "{}: took {} ({} predicted), read {} at {}, {} at most ({} predicted)\n", what,
               FormatSeconds(report.seconds), FormatSeconds(report.plan.seconds),
               FormatBytes(report.stats.payload_bytes),
               FormatRate(static_cast<double>(report.stats.payload_bytes) / std::max(report.seconds, 1e-3)),
               FormatMemory(PeakResidentBytes()), FormatMemory(report.plan.peak_bytes));
  }
  return report;
}

}  // namespace sluice::cli
