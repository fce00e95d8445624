#include "report/replay_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "report/config_report.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::SideReplay;

// On one line of a table.
std::string Value(const std::optional<ordered_json>& value) {
  if (!value) return "-";
  constexpr size_t kMost = 40;
  std::string text = value->is_string() ? value->get<std::string>()
                                        : value->dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (text.size() > kMost) {
    size_t end = kMost - 1;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
    text = text.substr(0, end) + "…";
  }
  std::ranges::replace(text, '\n', ' ');
  return text;
}

std::string Names(const std::vector<std::string>& names) {
  constexpr size_t kMost = 4;
  const size_t shown = std::min(names.size(), kMost);
  std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  if (shown < names.size()) text += fmt::format(" and {} more", FormatCount(names.size() - shown));
  return text;
}

std::string Label(const SideReplay& side) {
  if (side.name == "a") return "A";
  return side.name == "b" ? "B" : side.name;
}

std::string StateText(const SideReplay& side) {
  if (side.state == SideReplay::State::kSame) return fmt::format("as recorded ({})", side.known_by);
  std::string text = fmt::format("changed: {}", fmt::join(side.changed, ", "));
  if (!side.tensors.empty()) text += fmt::format(" ({})", Names(side.tensors));
  return text;
}

}  // namespace

ordered_json ReplayJson(const verify::Replay& replay) {
  ordered_json json;
  json["evidence"] = replay.folder;
  json["made_by"] = replay.made_by;
  json["reproduced"] = replay.reproduced();
  json["finding"] = replay.Finding();
  json["recorded_verdict"] =
      replay.recorded_verdict.empty() ? ordered_json(nullptr) : ordered_json(replay.recorded_verdict);
  json["recorded_level"] = replay.recorded_level;
  json["sides"] = ordered_json::array();
  for (const SideReplay& side : replay.sides) {
    json["sides"].push_back({{"side", side.name},
                             {"recorded_ref", side.recorded_ref},
                             {"ref", side.ref},
                             {"same", side.state == SideReplay::State::kSame},
                             {"known_by", side.known_by},
                             {"changed", side.changed},
                             {"tensors", side.tensors},
                             {"files", side.files}});
  }
  json["fields"] = {{"agree", replay.results.agree},
                    {"differ", replay.results.differ.size()},
                    {"not_compared", replay.results.not_compared.size()}};
  json["not_compared"] = replay.results.not_compared;
  json["differences"] = ordered_json::array();
  for (const verify::FieldDifference& difference : replay.results.differ) {
    ordered_json entry = {{"field", difference.field}};
    if (difference.recorded) entry["recorded"] = *difference.recorded;
    if (difference.now) entry["now"] = *difference.now;
    json["differences"].push_back(std::move(entry));
  }
  return json;
}

std::string ReplayText(const verify::Replay& replay, const ordered_json& result) {
  // A part of a run has no verdict.
  const auto named = [](const std::string& verdict) { return verdict.empty() ? std::string("no verdict") : verdict; };
  const std::string recorded = named(replay.recorded_verdict);
  const std::string verdict = named(result.at("verdict").is_string() ? result.at("verdict").get<std::string>() : "");
  const std::string level = result.at("level").get<std::string>();
  const bool same_answer = verdict == recorded && level == replay.recorded_level;
  std::string text = replay.reproduced() ? "REPRODUCED" : "NOT REPRODUCED";
  text += same_answer ? fmt::format("  ({}, level {})\n\n", verdict, level)
                      : fmt::format("  (recorded {}, level {}; now {}, level {})\n\n", recorded, replay.recorded_level,
                                    verdict, level);
  Table table({"", "", ""});
  table.AddRow({"evidence", replay.folder, "by " + replay.made_by});
  for (const SideReplay& side : replay.sides) table.AddRow({Label(side), side.ref, StateText(side)});
  const size_t differ = replay.results.differ.size();
  table.AddRow({"fields", fmt::format("{} compared", FormatCount(replay.results.agree + differ)),
                differ == 0 ? "all agree" : fmt::format("{} differ", FormatCount(differ))});
  if (!replay.results.not_compared.empty()) {
    table.AddRow({"not compared", FormatCount(replay.results.not_compared.size()), Names(replay.results.not_compared)});
  }
  text += table.ToString("  ") + fmt::format("\n  finding  {}\n", replay.Finding());
  for (const SideReplay& side : replay.sides) {
    if (side.files.empty()) continue;
    text += fmt::format("  files    of {}, not as recorded: {}\n", Label(side), Names(side.files));
  }
  Table fields({"field", "recorded", "now"});
  for (size_t i = 0; i < std::min(differ, kMostRows); ++i) {
    const verify::FieldDifference& difference = replay.results.differ[i];
    fields.AddRow({difference.field, Value(difference.recorded), Value(difference.now)});
  }
  NoteMore(differ, &fields);
  return text + TextOf({fields});
}

}  // namespace sluice::report
