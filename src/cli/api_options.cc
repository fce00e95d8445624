#include "cli/api_options.h"

#include <fmt/format.h>

namespace sluice::cli {
namespace {

constexpr uint64_t kMostTop = 1u << 20, kMostIds = 1024;
constexpr double kMostSeconds = 3600;

}  // namespace

void AddApiOptions(CLI::App& app, ApiRequest* request) {
  const auto add = [&](const char* name, auto* value, const char* what, const char* type) {
    app.add_option(name, *value, what)->type_name(type)->group("Options");
  };
  add("--api-top", &request->top, "Of servers: tokens to a list (default: the longest of 20, 5 and 1 that is given)",
      "K");
  add("--api-positions", &request->positions, "Of servers: score the last M positions of a challenge (default: all)",
      "M");
  add("--api-ids", &request->ids,
      "Of servers: score one side's K likeliest tokens and the rest, not bounds; for servers that echo", "K");
  add("--api-timeout", &request->timeout_seconds, "Of servers: seconds to wait without a byte (default: 120)", "S");
  add("--api-tokenizer", &request->tokenizer, "Of servers: a model, or a file, that has their tokens", "REF");
  add("--api-record", &request->record, "Of servers: keep their answers, as PREFIX.a.jsonl and PREFIX.b.jsonl",
      "PREFIX");
  add("--api-replay", &request->replay, "Of servers: take their answers from --api-record, and ask nobody", "PREFIX");
}

std::string GivenApiOption(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() > 0 && !option->get_lnames().empty() && option->get_lnames().front().starts_with("api-")) {
      return option->get_lnames().front();
    }
  }
  return "";
}

Result<void> CheckApiValues(const ApiRequest& request) {
  if (request.top > kMostTop) {
    return Fail(ErrorCode::kUsage, fmt::format("--api-top {}: want a number up to {}", request.top, kMostTop));
  }
  if (request.ids > kMostIds) {
    return Fail(ErrorCode::kUsage, fmt::format("--api-ids {}: want a number up to {}", request.ids, kMostIds));
  }
  if (!(request.timeout_seconds >= 1 && request.timeout_seconds <= kMostSeconds)) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--api-timeout {}: want seconds from 1 to {}", request.timeout_seconds, kMostSeconds));
  }
  if (!request.record.empty() && !request.replay.empty()) {
    return Fail(ErrorCode::kUsage, "--api-record keeps answers, --api-replay asks for none: one at a time");
  }
  return {};
}

}  // namespace sluice::cli
