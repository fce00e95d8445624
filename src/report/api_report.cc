#include "report/api_report.h"

#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "report/table.h"
#include "verify/block_sample.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using namespace verify::api_model;

ordered_json NumberOrNull(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

ordered_json SideJson(const ApiSide& side) {
  if (!side.is_api) return {{"ref", side.ref}};
  return {
      {"ref", side.ref},
      {"answering_model", side.answering_model.empty() ? ordered_json(nullptr) : ordered_json(side.answering_model)},
      {"from_record", side.from_record},
      {"shape", ShapeName(side.offer.shape)},
      {"token_ids", side.offer.prompt_ids},
      {"top", side.offer.num_top},
      {"scores_ids", side.offer.scores_ids},
      {"rest", side.offer.mean_rest},
      {"predicted",
       {{"requests", side.cost.num_requests},
        {"prompt_tokens", side.cost.num_prompt_tokens},
        {"seconds", side.cost.seconds}}},
      {"requests", side.stats.num_requests},
      {"retries", side.stats.num_retries},
      {"bytes_received", side.stats.bytes_received},
      {"seconds", side.stats.seconds}};
}

ordered_json CommitmentJson(const ApiResult& result) {
  if (!result.commitment) return nullptr;
  return {{"key", verify::NonceText(result.commitment->key)},
          {"run_id", kernels::ToHex(result.commitment->run_id)},
          {"sha256", kernels::ToHex(result.commitment->hash)},
          {"terms", result.commitment->terms}};
}

std::string ScoreText(const ApiResult& result) {
  return result.coarse_ids > 0
             ? fmt::format("coarsened distance over {} tokens and the rest (bounds total variation from below only)",
                           result.coarse_ids)
             : std::string("bounds of total variation, from lists of likeliest tokens");
}

std::string PositionsText(const ApiResult& result) {
  return result.positions == 0 ? std::string("all positions") : fmt::format("the last {} positions", result.positions);
}

void AddPlanRows(const ApiResult& result, Table* table) {
  table->AddRow({"score", ScoreText(result)});
  if (result.coarse_ids == 0) {
    table->AddRow({"attainable floor",
                   fmt::format("{:.4g}: what two equal models would be told to differ by at most{}", result.floor,
                               result.can_say_same() ? ""
                                                     : fmt::format("; not below gamma {}, so SAME cannot be said",
                                                                   result.settings.gamma))});
  }
  for (size_t i = 0; i < 2; ++i) {
    const ApiSide& side = result.sides[i];
    if (!side.is_api) continue;
    const std::string name = i == 0 ? "A" : "B";
    table->AddRow(
        {"server of " + name,
         fmt::format("lists of {}, {} a challenge, prompts as {}", side.offer.num_top,
                     side.offer.shape == AnswerShape::kNext ? "one request for each position of" : "one request for",
                     side.offer.prompt_ids ? "token ids" : "text")});
    if (side.from_record) continue;
    table->AddRow({"cost of " + name,
                   fmt::format("{} requests, {} prompt tokens, about {} (at {} each), for all challenges",
                               FormatCount(side.cost.num_requests), FormatCount(side.cost.num_prompt_tokens),
                               FormatSeconds(side.cost.seconds), FormatSeconds(side.offer.seconds_a_request))});
  }
  table->AddRow({"least numbers", fmt::format("SAME {}, DIFFERENT {} challenges, by any rule",
                                              FormatCount(result.least_same), FormatCount(result.least_different))});
}

}  // namespace

ordered_json ApiPlanJson(const ApiResult& result) {
  ordered_json json;
  json["api"] = {{"score", result.coarse_ids > 0 ? "coarse" : "bounds"},
                 {"floor", result.floor},
                 {"can_say_same", result.can_say_same()},
                 {"challenges", result.challenges},
                 {"least_same", result.least_same},
                 {"least_different", result.least_different},
                 {"a", SideJson(result.sides[0])},
                 {"b", SideJson(result.sides[1])}};
  return json;
}

std::string ApiPlanText(const ApiResult& result) {
  Table table({"", ""});
  AddPlanRows(result, &table);
  return fmt::format("behaviour: {} challenges at most, {}\n", FormatCount(result.challenges), PositionsText(result)) +
         table.ToString("  ");
}

ordered_json ApiJson(const ApiResult& result, const ApiRun& run) {
  const bool is_valid = result.invalid.empty();
  ordered_json json;
  json["verdict"] = verify::VerdictName(run.verdict);
  json["level"] = "behaviour";
  json["proves"] = ApiProves(result);
  json["does_not_prove"] = ApiDoesNotProve(result);
  json["config"] = ordered_json::object();
  json["summary"] = {{"a", {{"ref", result.sides[0].ref}}}, {"b", {{"ref", result.sides[1].ref}}}};
  json["tensors"] = ordered_json::array();
  ordered_json& api = json["api"];
  api["gamma"] = result.settings.gamma;
  api["alpha"] = result.settings.alpha;
  api["score"] = result.coarse_ids > 0 ? "coarse" : "bounds";
  api["ids"] = result.coarse_ids > 0 ? ordered_json(result.coarse_ids) : nullptr;
  api["challenges"] = result.challenges;
  api["challenge_tokens"] = result.challenge_tokens > 0 ? ordered_json(result.challenge_tokens) : nullptr;
  api["population"] = result.settings.population > 0 ? ordered_json(result.settings.population) : nullptr;
  api["positions"] = result.positions > 0 ? ordered_json(result.positions) : nullptr;
  api["invalid"] = is_valid ? ordered_json(nullptr) : ordered_json(result.invalid);
  api["scored"] = result.scored;
  api["decided_at"] = result.decided_at > 0 && is_valid ? ordered_json(result.decided_at) : nullptr;
  if (is_valid) {
    api["mean"] = {{"lower", result.mean_lower}, {"upper", result.mean_upper}};
    api["interval"] = {{"lower", result.interval_lower},
                       {"upper", result.interval_upper},
                       {"confidence", 1 - 2 * result.settings.alpha}};
    api["log_capital"] = {{"same", NumberOrNull(result.log_capital_same)},
                          {"different", NumberOrNull(result.log_capital_different)},
                          {"decides_at", -std::log(result.settings.alpha)}};
  } else {
    api["mean"] = api["interval"] = api["log_capital"] = nullptr;
  }
  api["floor"] = result.floor;
  api["can_say_same"] = result.can_say_same();
  api["least_same"] = result.least_same;
  api["least_different"] = result.least_different;
  api["repeats"] = result.repeats;
  api["a"] = SideJson(result.sides[0]);
  api["b"] = SideJson(result.sides[1]);
  api["commitment"] = CommitmentJson(result);
  json["memory"] = {{"budget", run.budget_bytes}, {"peak", run.peak_bytes}};
  json["seconds"] = run.seconds;
  json["bytes_read"] = run.bytes_read;
  return json;
}

std::string ApiText(const ApiResult& result, const ApiRun& run) {
  std::string text = fmt::format("{}\n  proves          {}\n  does not prove  {}\n\n", verify::VerdictName(run.verdict),
                                 ApiProves(result), ApiDoesNotProve(result));
  Table table({"", ""});
  table.AddRow({"A", result.sides[0].ref});
  table.AddRow({"B", result.sides[1].ref});
  if (!result.invalid.empty()) table.AddRow({"failed", result.invalid});
  AddPlanRows(result, &table);
  if (result.invalid.empty()) {
    table.AddRow({"asked", fmt::format("{} of {} challenges, {}; {} were repeated, and answered alike",
                                       FormatCount(result.scored), FormatCount(result.challenges),
                                       PositionsText(result), FormatCount(result.repeats))});
    table.AddRow({"mean score", result.mean_lower == result.mean_upper
                                    ? fmt::format("{:.4g}", result.mean_lower)
                                    : fmt::format("between {:.4g} and {:.4g}", result.mean_lower, result.mean_upper)});
    table.AddRow({"interval", fmt::format("{:.4g} to {:.4g}, confidence {:.3g} at any time", result.interval_lower,
                                          result.interval_upper, 1 - 2 * result.settings.alpha)});
    table.AddRow({"gamma, alpha", fmt::format("{}, {}", result.settings.gamma, result.settings.alpha)});
  }
  for (size_t i = 0; i < 2; ++i) {
    const ApiSide& side = result.sides[i];
    if (!side.is_api || side.from_record) continue;
    table.AddRow({i == 0 ? "asked of A" : "asked of B",
                  fmt::format("{} requests, {} tried again, {} received in {}", FormatCount(side.stats.num_requests),
                              FormatCount(side.stats.num_retries), FormatBytes(side.stats.bytes_received),
                              FormatSeconds(side.stats.seconds))});
  }
  if (result.commitment) {
    table.AddRow({"commitment", kernels::ToHex(result.commitment->hash)});
    table.AddRow({"key", verify::NonceText(result.commitment->key)});
  }
  return text + table.ToString("  ") +
         fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n", FormatSeconds(run.seconds),
                     FormatBytes(run.bytes_read), FormatMemory(run.peak_bytes), FormatMemory(run.budget_bytes));
}

}  // namespace sluice::report
