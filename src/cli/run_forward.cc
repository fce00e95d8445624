#include "cli/run_forward.h"

#include <cstdio>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "base/units.h"
#include "cli/progress_view.h"
#include "cli/run_pass.h"

namespace sluice::cli {

std::string ForwardPlanText(const infer::PassPlan& plan, const std::string& what) {
  const stream::Plan& stream = plan.stream;
  const double compute = plan.operations / plan.operations_per_second + stream.cpu_seconds;
  std::string text = fmt::format("{}: {} tokens, logits of {}, about {}\n", what, FormatCount(plan.num_tokens),
                                 FormatCount(plan.num_logit_tokens), FormatSeconds(plan.seconds));
  text += fmt::format("  read     {} by {}{}, {}\n", FormatBytes(stream.read_bytes), stream.reader,
                      stream.read_bytes_per_second > 0 ? " at " + FormatRate(stream.read_bytes_per_second) : "",
                      FormatSeconds(stream.io_seconds));
  text += fmt::format("  compute  {:.3g} GFLOP at {:.3g} GFLOP/s on {} {}, {}\n", plan.operations / 1e9,
                      plan.operations_per_second / 1e9, stream.num_threads,
                      stream.num_threads == 1 ? "thread" : "threads", FormatSeconds(compute));
  if (plan.num_rounds > 1) {
    text += fmt::format("  rounds   {}, so that hidden states fit; {} of weights stay in memory from the first on\n",
                        FormatCount(plan.num_rounds), FormatBytes(plan.kept_bytes));
  }
  text += fmt::format("  memory   {} at most of {}: {} of hidden states{}, {} tokens at a time in {}\n",
                      FormatMemory(stream.peak_bytes), FormatMemory(stream.budget_bytes),
                      FormatMemory(plan.hidden_bytes), plan.spilled ? " (in a temporary file)" : "",
                      plan.chunk_tiles * kernels::kTileTokens, FormatMemory(plan.workspace_bytes));
  return text;
}

nlohmann::ordered_json ForwardPlanJson(const infer::PassPlan& plan) {
  nlohmann::ordered_json json = PlanJson(plan.stream, {});
  json["tokens"] = plan.num_tokens;
  json["logit_tokens"] = plan.num_logit_tokens;
  json["operations"] = plan.operations;
  json["operations_per_second"] = plan.operations_per_second;
  json["hidden_bytes"] = plan.hidden_bytes;
  json["spilled"] = plan.spilled;
  json["rounds"] = plan.num_rounds;
  json["kept_bytes"] = plan.kept_bytes;
  json["seconds"] = plan.seconds;
  return json;
}

infer::PassOptions MakePassOptions(Session& session) {
  infer::PassOptions options;
  options.num_threads = session.options.threads;
  options.budget = &session.budget;
  options.cancelled = &session.cancelled;
  return options;
}

void PrintForwardPlan(Session& session, const infer::PassPlan& plan, const std::string& what) {
  nlohmann::ordered_json json;
  json["dry_run"] = true;
  json["plan"] = ForwardPlanJson(plan);
  session.Print(json, ForwardPlanText(plan, what));
}

Result<infer::PassStats> RunForward(Session& session, infer::ForwardPass& pass, infer::LogitSink* sink,
                                    const std::string& what) {
  const infer::PassPlan& plan = pass.plan();
  const bool quiet = session.options.quiet;
  if (!quiet && plan.seconds > kShowPlanSeconds) fmt::print(stderr, "{}", ForwardPlanText(plan, what));
  infer::PassStats stats;
  {
    ProgressView view(StyleOf(quiet), what, plan.stream.read_bytes);
    auto ran = pass.Run(sink, [&](double done) {
      stream::StreamStats so_far;  // the weights that the work done has used
      so_far.payload_bytes = static_cast<uint64_t>(done * static_cast<double>(plan.stream.read_bytes));
      view.OnTile(so_far);
    });
    if (!ran && session.cancelled && ran.error().code == ErrorCode::kCancelled) {
      ran.error().message = "interrupted; resuming is not supported yet, so run the command again";
    }
    SLUICE_ASSIGN(stats, std::move(ran));
  }
  if (!quiet && (plan.seconds > kShowPlanSeconds || stats.seconds > kShowPlanSeconds)) {
    fmt::print(stderr, "{}: took {} ({} predicted), {:.0f} tokens/s, read {} at {}, {} at most ({} predicted)\n", what,
               FormatSeconds(stats.seconds), FormatSeconds(plan.seconds),
               static_cast<double>(plan.num_tokens * pass.num_models()) / std::max(stats.seconds, 1e-3),
               FormatBytes(stats.bytes_read),
               FormatRate(static_cast<double>(stats.bytes_read) / std::max(stats.seconds, 1e-3)),
               FormatMemory(PeakResidentBytes()), FormatMemory(plan.stream.peak_bytes));
  }
  return stats;
}

}  // namespace sluice::cli
