#include "report/behaviour_page.h"

#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "report/behaviour_report.h"
#include "report/config_report.h"
#include "report/html_page.h"
#include "report/svg_chart.h"

namespace sluice::report {
namespace {

using namespace verify::behaviour;

constexpr const char* kStyle =
    "body { overflow-wrap: anywhere; }\n"
    "p.verdict { font-size: 1.3em; font-weight: 600; padding: 0.6em 0.8em; border-left: 0.35em solid var(--verdict); "
    "}\n"
    "p.same { --verdict: #2e8b57; } p.other { --verdict: #c0392b; } p.open { --verdict: #b8860b; }\n"
    "table.words td, table.words th { white-space: normal; }\n"
    "table.words td { min-width: 4.5em; } table.words td:last-child { min-width: 9em; }\n"
    "@media (max-width: 44em) { div.wide svg { width: 38em; max-width: none; } }\n";

const char* StyleOf(const verify::Verification& result) {
  switch (result.verdict) {
    case verify::Verdict::kSameBehaviour:
      return "same";
    case verify::Verdict::kUndecided:
      return "open";
    default:
      return "other";
  }
}

// The level of something over the whole width.
ChartSeries Level(const std::string& name, double value, const Evaluation& evaluation, size_t colour) {
  const auto first = static_cast<double>(evaluation.path.front().challenges);
  const auto last = static_cast<double>(evaluation.path.back().challenges);
  return {.name = name, .points = {{first, value}, {last, value}}, .colour = colour, .wide = true, .dots = false};
}

std::string IntervalChart(const BehaviourResult& result) {
  const Evaluation& evaluation = result.evaluation;
  ChartSeries upper{.name = "upper limit", .points = {}, .colour = 0, .dots = false};
  ChartSeries mean{.name = "mean so far", .points = {}, .colour = 2, .dots = false};
  ChartSeries lower{.name = "lower limit", .points = {}, .colour = 1, .dots = false};
  double sum = 0;
  uint64_t done = 0;
  for (const PathPoint& point : evaluation.path) {
    while (done < point.challenges) sum += result.scores[done++];
    const auto x = static_cast<double>(point.challenges);
    upper.points.push_back({x, point.upper});
    mean.points.push_back({x, sum / x});
    lower.points.push_back({x, point.lower});
  }
  return SvgOf(LineChart{.title = "What the mean score can be, after so many challenges",
                         .x_title = "challenges",
                         .y_title = "mean score",
                         .series = {Level("gamma", result.settings.gamma, evaluation, 3), upper, mean, lower},
                         .log_y = true});
}

std::string CapitalChart(const BehaviourResult& result) {
  ChartSeries same{.name = "on SAME", .points = {}, .colour = 0, .dots = false};
  ChartSeries different{.name = "on DIFFERENT", .points = {}, .colour = 1, .dots = false};
  for (const PathPoint& point : result.evaluation.path) {
    const auto x = static_cast<double>(point.challenges);
    if (std::isfinite(point.capital_same)) same.points.push_back({x, point.capital_same});
    if (std::isfinite(point.capital_different)) different.points.push_back({x, point.capital_different});
  }
  return SvgOf(
      LineChart{.title = "What betting on each answer has made",
                .x_title = "challenges",
                .y_title = "ln of the capital",
                .series = {Level("decides", -std::log(result.settings.alpha), result.evaluation, 3), same, different},
                .zero_line = true});
}

// Whole texts: the page wraps them.
std::string ToldHtml(const BehaviourResult& result) {
  const bool has_lines = result.settings.population > 0;
  std::vector<std::string> headings = {"Challenge", "Score"};
  if (has_lines) headings.emplace_back("Line");
  headings.emplace_back("Tokens");
  HtmlTable table(headings, "words");
  for (const ToldChallenge& told : result.most_differing) {
    std::string text = told.text;
    if (text.empty()) {
      for (const uint32_t id : told.ids) text += fmt::format("{}{}", text.empty() ? "" : " ", id);
    }
    std::vector<std::string> row = {FormatCount(told.place + 1), fmt::format("{:.6f}", told.score)};
    if (has_lines) row.push_back(told.line ? FormatCount(*told.line) : "");
    row.push_back(text);
    table.AddRow(row);
  }
  return table.ToString();
}

}  // namespace

std::string BehaviourPage(const verify::Verification& result, bool with_config) {
  const BehaviourResult& behaviour = *result.behaviour;
  const std::string verdict = BehaviourVerdictText(result);
  std::string html = PageHead(fmt::format("{}: {} and {}", verdict, result.ref_a, result.ref_b), kStyle + ChartStyle());
  html += "<h1>Do these two models behave alike?</h1>\n";
  html += fmt::format("<p class=\"verdict {}\">{}</p>\n",
                      behaviour.is_part() && behaviour.evaluation.invalid.empty() ? "open" : StyleOf(result),
                      Breakable(verdict));
  html += Paragraph("Proves: " + BehaviourProves(behaviour) + ".");
  html += Paragraph("Does not prove: " + BehaviourDoesNotProve(behaviour) + ".");
  HtmlTable sides({"", "Model", "Parameters", "Bytes"}, "models");
  const auto add_side = [&](const char* side, const std::string& ref, uint64_t parameters, uint64_t bytes) {
    sides.AddRow({side, ref, with_config ? FormatCount(parameters) : "", with_config ? FormatBytes(bytes) : ""});
  };
  add_side("A", result.ref_a, result.config.parameters_a, result.config.bytes_a);
  add_side("B", result.ref_b, result.config.parameters_b, result.config.bytes_b);
  html += sides.ToString();
  for (const auto& [side, note] : {std::pair("A", &result.note_a), {"B", &result.note_b}}) {
    if (!note->empty()) html += Note(fmt::format("{} was computed with {}.", side, *note));
  }
  html += Heading("What was asked, and what came out") + HtmlOf({BehaviourTable(behaviour)}, "words");
  if (!behaviour.evaluation.path.empty()) {
    html += Heading("As challenges came in") + Wide(IntervalChart(behaviour));
    html +=
        Note(fmt::format("At every number of challenges at once the mean lies within these limits with a "
                         "confidence of {:.6g}%; a limit at 0 is not drawn. SAME is said once the upper limit is "
                         "below gamma, DIFFERENT once the lower one is above.",
                         100 * (1 - 2 * behaviour.settings.alpha)));
    html += Wide(CapitalChart(behaviour));
  }
  if (!behaviour.most_differing.empty()) {
    html += Heading("The challenges on which the two differ most") + ToldHtml(behaviour);
    html += Note(
        "A score is the total variation between the two distributions of the next token, averaged over the "
        "positions of the challenge: 0 where they are the same, 1 where they have nothing in common.");
  }
  if (with_config) {
    Table headers({"compared", "found", "an agreement proves", "and does not prove"});
    AddConfigRows(result.config, &headers);
    html += Heading("What headers tell") + HtmlOf({headers}, "words");
    html += HtmlOf(ConfigTables(result.config, /*with_parts=*/false), "words");
  }
  html += Heading("What it took");
  html += Paragraph(fmt::format("{}, {} of weights read, {} of memory at most (budget {}).",
                                FormatSeconds(result.seconds), FormatBytes(result.bytes_read),
                                FormatMemory(result.peak_bytes), FormatMemory(result.budget_bytes)));
  return html + PageEnd();
}

}  // namespace sluice::report
