#include "report/behaviour_report.h"

#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "report/config_report.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using namespace verify::behaviour;
using verify::sequential_test::Outcome;

constexpr size_t kTextColumns = 60;

ordered_json NumberOrNull(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }
template <class T>
ordered_json OrNull(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json TextOrNull(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

ordered_json PowerJson(const Power& power) {
  return {{"same",
           {{"any_rule", power.least_same_any},
            {"zeros", OrNull(power.least_same)},
            {"scores_of_003", OrNull(power.same_at_003)},
            {"gap_equal", OrNull(power.same_gap)},
            {"gap_zero_one", OrNull(power.same_gap_01)}}},
          {"different",
           {{"any_rule", power.least_different_any},
            {"ones", OrNull(power.least_different)},
            {"gap_equal", OrNull(power.different_gap)},
            {"gap_zero_one", OrNull(power.different_gap_01)}}}};
}

ordered_json CommitmentJson(const std::optional<Commitment>& commitment) {
  if (!commitment) return nullptr;
  return {{"key", verify::NonceText(commitment->key)},
          {"run_id", kernels::ToHex(commitment->run_id)},
          {"sha256", kernels::ToHex(commitment->hash)},
          {"terms", commitment->terms}};
}

ordered_json AlignmentJson(const BehaviourResult& result) {
  if (result.alignment.empty()) return nullptr;
  return {{"by", result.alignment},         {"note", TextOrNull(result.alignment_note)},
          {"shared", result.shared_tokens}, {"only_in_a", result.only_in_a},
          {"only_in_b", result.only_in_b},  {"drawable", result.drawable_tokens}};
}

// Of so many challenges at most.
std::string Count(const std::optional<uint64_t>& count, uint64_t most) {
  return count ? FormatCount(*count) : fmt::format("more than {}", FormatCount(most));
}

std::string CapitalText(double log) { return std::isfinite(log) ? fmt::format("e^{:.2f}", log) : "without bound"; }

std::string AskedText(const BehaviourResult& result) {
  if (result.settings.population == 0) {
    return fmt::format("{} of {} tokens, each drawn from {}", FormatCount(result.challenges),
                       FormatCount(result.challenge_tokens), FormatCount(result.drawable_tokens));
  }
  return fmt::format("{} of {} prompts, in keyed order", FormatCount(result.challenges),
                     FormatCount(result.settings.population));
}

std::string DecidedText(const BehaviourResult& result) {
  const Evaluation& evaluation = result.evaluation;
  if (evaluation.decided_at == 0) return "not decided";
  return fmt::format("{} after {} of them", OutcomeName(evaluation.outcome), FormatCount(evaluation.decided_at));
}

std::string AlignmentText(const BehaviourResult& result) {
  std::string text = result.alignment == "same_tokens" ? "the same tokens on both sides"
                     : result.alignment == "by_bytes"  ? "aligned by the bytes of tokens"
                                                       : "taken for the same by number";
  text += fmt::format(": {} shared", FormatCount(result.shared_tokens));
  if (result.only_in_a + result.only_in_b > 0) {
    text += fmt::format(", {} only in A, {} only in B", FormatCount(result.only_in_a), FormatCount(result.only_in_b));
  }
  return text;
}

void AddPowerRows(const BehaviourResult& result, Table* table) {
  const Power& power = result.power;
  table->AddRow(
      {"least for SAME", fmt::format("{} by any rule; here {} where all scores are 0, {} where they are 0.003",
                                     FormatCount(power.least_same_any), Count(power.least_same, result.challenges),
                                     Count(power.same_at_003, result.challenges))});
  table->AddRow({"least for DIFFERENT",
                 fmt::format("{} by any rule; here {} where all scores are 1", FormatCount(power.least_different_any),
                             Count(power.least_different, result.challenges))});
  const auto gap = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.3g}", *value) : std::string("none");
  };
  if (!power.same_gap && !power.different_gap) return;
  table->AddRow(
      {"smallest gap to gamma",
       fmt::format("SAME {}, DIFFERENT {} of equal scores; {}, {} of scores 0 or 1 (90%)", gap(power.same_gap),
                   gap(power.different_gap), gap(power.same_gap_01), gap(power.different_gap_01))});
}

void AddCommitmentRows(const BehaviourResult& result, Table* table) {
  if (!result.commitment) return;
  table->AddRow({"commitment", kernels::ToHex(result.commitment->hash)});
  table->AddRow({"key", verify::NonceText(result.commitment->key)});
}

}  // namespace

ordered_json BehaviourJson(const BehaviourResult& result) {
  const Evaluation& evaluation = result.evaluation;
  const bool decides = !result.is_part() && evaluation.invalid.empty();
  ordered_json json;
  json["gamma"] = result.settings.gamma;
  json["alpha"] = result.settings.alpha;
  json["challenges"] = result.challenges;
  json["challenge_tokens"] = result.challenge_tokens > 0 ? ordered_json(result.challenge_tokens) : nullptr;
  json["population"] = result.settings.population > 0 ? ordered_json(result.settings.population) : nullptr;
  json["part"] = result.is_part() ? ordered_json{{"part", result.share.part}, {"parts", result.share.parts}} : nullptr;
  json["invalid"] = evaluation.invalid.empty() ? ordered_json(nullptr) : ordered_json(evaluation.invalid);
  json["decided_at"] = evaluation.decided_at > 0 ? ordered_json(evaluation.decided_at) : nullptr;
  json["scored"] = evaluation.scored;
  json["mean"] = evaluation.scored > 0 ? ordered_json(evaluation.mean) : nullptr;
  json["largest"] = evaluation.scored > 0 ? ordered_json(evaluation.largest) : nullptr;
  if (decides) {
    const PathPoint& last = evaluation.path.back();
    json["interval"] = {{"lower", last.lower}, {"upper", last.upper}, {"confidence", 1 - 2 * result.settings.alpha}};
    json["log_capital"] = {{"same", NumberOrNull(last.capital_same)},
                           {"different", NumberOrNull(last.capital_different)},
                           {"decides_at", -std::log(result.settings.alpha)}};
  } else {
    json["interval"] = nullptr;
    json["log_capital"] = nullptr;
  }
  json["path"] = ordered_json::array();
  for (const PathPoint& point : evaluation.path) {
    json["path"].push_back({{"challenges", point.challenges},
                            {"lower", point.lower},
                            {"upper", point.upper},
                            {"log_capital_same", NumberOrNull(point.capital_same)},
                            {"log_capital_different", NumberOrNull(point.capital_different)}});
  }
  json["power"] = PowerJson(result.power);
  json["noise_floor"] = result.noise_floor;
  json["alignment"] = AlignmentJson(result);
  json["commitment"] = CommitmentJson(result.commitment);
  json["most_differing"] = ordered_json::array();
  for (const ToldChallenge& told : result.most_differing) {
    json["most_differing"].push_back({{"challenge", told.place},
                                      {"score", told.score},
                                      {"line", OrNull(told.line)},
                                      {"ids", told.ids},
                                      {"text", TextOrNull(told.text)}});
  }
  json["scores"] = result.scores;
  return json;
}

Table BehaviourTable(const BehaviourResult& result) {
  const Evaluation& evaluation = result.evaluation;
  Table table({"", ""});
  if (!evaluation.invalid.empty()) table.AddRow({"failed", evaluation.invalid});
  if (!result.alignment.empty()) {
    table.AddRow({"challenges", AskedText(result)});
    table.AddRow({"tokens", AlignmentText(result)});
    if (!result.alignment_note.empty()) table.AddRow({"", result.alignment_note});
  }
  if (result.is_part()) {
    table.AddRow({"part", fmt::format("{} of {}: {} challenges", result.share.part, result.share.parts,
                                      FormatCount(evaluation.scored))});
  }
  if (evaluation.scored > 0) {
    if (!result.is_part()) table.AddRow({"decided", DecidedText(result)});
    table.AddRow({"mean score", fmt::format("{:.6g}, the largest {:.6g} (gamma {})", evaluation.mean,
                                            evaluation.largest, result.settings.gamma)});
  }
  if (!evaluation.path.empty()) {
    const PathPoint& last = evaluation.path.back();
    table.AddRow({"interval", fmt::format("{:.6g} to {:.6g} ({:.6g}%)", last.lower, last.upper,
                                          100 * (1 - 2 * result.settings.alpha))});
    table.AddRow(
        {"capital", fmt::format("SAME {}, DIFFERENT {}; {} decides", CapitalText(last.capital_same),
                                CapitalText(last.capital_different), CapitalText(-std::log(result.settings.alpha)))});
  }
  if (result.commitment) {
    AddPowerRows(result, &table);
    table.AddRow({"noise floor", "0: both sides ran in one process, mode and instruction set"});
    AddCommitmentRows(result, &table);
  }
  return table;
}

Table ToldTable(const BehaviourResult& result) {
  Table table({">challenge", ">score", result.settings.population > 0 ? ">line" : "", "tokens"});
  for (const ToldChallenge& told : result.most_differing) {
    std::string text = told.text;
    if (text.empty()) {
      for (const uint32_t id : told.ids) text += fmt::format("{}{}", text.empty() ? "" : " ", id);
    }
    table.AddRow({FormatCount(told.place + 1), fmt::format("{:.6f}", told.score),
                  told.line ? FormatCount(*told.line) : "", Shorten(text, kTextColumns)});
  }
  table.SetNote("the challenges on which the two differ most");
  return table;
}

std::string BehaviourVerdictText(const verify::Verification& result) {
  const BehaviourResult& behaviour = *result.behaviour;
  if (behaviour.is_part() && behaviour.evaluation.invalid.empty()) {
    return fmt::format("PART {}/{}", behaviour.share.part, behaviour.share.parts);
  }
  return verify::VerdictName(result.verdict);
}

std::string BehaviourText(const verify::Verification& result, bool with_config) {
  const BehaviourResult& behaviour = *result.behaviour;
  std::string text = fmt::format("{}  (level {})\n\n", BehaviourVerdictText(result), verify::LevelName(result.level));
  Table sides({"", ""});
  sides.AddRow({"A", result.ref_a});
  sides.AddRow({"B", result.ref_b});
  text += sides.ToString("  ");
  if (!result.note_a.empty()) text += fmt::format("  A was computed with {}\n", result.note_a);
  if (!result.note_b.empty()) text += fmt::format("  B was computed with {}\n", result.note_b);
  text += "\n" + BehaviourTable(behaviour).ToString("  ");
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n", BehaviourProves(behaviour),
                      BehaviourDoesNotProve(behaviour));
  Table headers({"compared", "found", "an agreement proves", "and does not prove"});
  if (with_config) AddConfigRows(result.config, &headers);
  text += TextOf({headers, ToldTable(behaviour)});
  return text + fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n",
                            FormatSeconds(result.seconds), FormatBytes(result.bytes_read),
                            FormatMemory(result.peak_bytes), FormatMemory(result.budget_bytes));
}

std::string StandingText(const PathPoint& standing, uint64_t challenges) {
  return fmt::format(
      "behaviour: after {} of {} challenges the mean score lies in {:.4g} to {:.4g}, capital SAME {}, "
      "DIFFERENT {}",
      FormatCount(standing.challenges), FormatCount(challenges), standing.lower, standing.upper,
      CapitalText(standing.capital_same), CapitalText(standing.capital_different));
}

ordered_json BehaviourPlanJson(const BehaviourResult& result) {
  ordered_json json;
  json["challenges"] = result.share.CountOf(result.challenges);
  json["power"] = PowerJson(result.power);
  json["noise_floor"] = result.noise_floor;
  json["alignment"] = AlignmentJson(result);
  return json;
}

std::string BehaviourPlanText(const BehaviourResult& result) {
  Table table({"", ""});
  table.AddRow({"challenges", AskedText(result)});
  AddPowerRows(result, &table);
  if (result.commitment) table.AddRow({"commitment", kernels::ToHex(result.commitment->hash)});
  return fmt::format("behaviour: gamma {}, alpha {}\n", result.settings.gamma, result.settings.alpha) +
         table.ToString("  ");
}

}  // namespace sluice::report
