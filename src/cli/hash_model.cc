#include "cli/hash_model.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/progress_view.h"
#include "cli/run_pass.h"

namespace sluice::cli {
namespace {

using Clock = std::chrono::steady_clock;

void ShowPlan(Session& session, const verify::ModelFiles& files, const std::string& what) {
  nlohmann::ordered_json json;
  json["dry_run"] = true;
  json["plan"] = {{"files", files.files.size()},
                  {"bytes_read", files.size_bytes},
                  {"budget_bytes", session.options.max_memory_bytes},
                  {"threads", session.options.threads}};
  session.Print(json, fmt::format("{}: {} files\n  read     {} on {} {}\n", what, files.files.size(),
                                  FormatBytes(files.size_bytes), session.options.threads,
                                  session.options.threads == 1 ? "thread" : "threads"));
}

}  // namespace

Result<std::optional<std::vector<io::PieceHashes>>> HashModel(Session& session, const verify::ModelFiles& files,
                                                              std::span<const io::FilePiece> pieces,
                                                              const std::string& what) {
  if (session.options.dry_run) {
    ShowPlan(session, files, what);
    return std::nullopt;
  }
  const Clock::time_point started = Clock::now();
  ProgressView view(StyleOf(session.options.quiet), what, files.size_bytes);
  session.budget.ChargeResident();
  const auto progress = [&](uint64_t bytes) {
    stream::StreamStats stats;
    stats.payload_bytes = bytes;
    view.OnTile(stats);
  };
  SLUICE_ASSIGN(auto hashes, io::HashFiles(pieces, {.num_threads = session.options.threads,
                                                    .budget = &session.budget,
                                                    .cancelled = &session.cancelled,
                                                    .progress = progress}));
  SLUICE_TRY(verify::CheckUnchanged(files));
  const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
  if (!session.options.quiet && seconds > kShowPlanSeconds) {
    fmt::print(stderr, "{}: took {}, read {} at {}\n", what, FormatSeconds(seconds), FormatBytes(files.size_bytes),
               FormatRate(static_cast<double>(files.size_bytes) / seconds));
  }
  return std::optional(std::move(hashes));
}

}  // namespace sluice::cli
