#include "report/verification_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/units.h"
#include "kernels/sha256.h"
#include "merge/merge_plan.h"
#include "report/config_report.h"
#include "report/fingerprint_report.h"
#include "report/heat_map.h"
#include "report/html_page.h"
#include "report/svg_chart.h"
#include "report/tensor_kind.h"
#include "report/verification_report.h"

namespace sluice::report {
namespace {

using verify::TensorClass;
using verify::TensorDiff;

constexpr uint64_t kMostLayers = 1024;

constexpr const char* kStyle =
    "body { overflow-wrap: anywhere; }\n"
    "p.verdict { font-size: 1.3em; font-weight: 600; padding: 0.6em 0.8em; border-left: 0.35em solid var(--verdict); "
    "}\n"
    "p.same { --verdict: #2e8b57; } p.other { --verdict: #c0392b; } p.open { --verdict: #b8860b; }\n"
    "table.words td, table.words th { text-align: left; white-space: normal; }\n"
    "table.words td { min-width: 6em; }\n"
    "@media (max-width: 44em) { div.wide svg { width: 38em; max-width: none; } }\n";

std::string L2Text(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }
std::string ShareText(double value) {
  return value > 0 && value < 0.001 ? fmt::format("{:.2g} %", 100 * value) : fmt::format("{:.1f} %", 100 * value);
}

double ChangedShare(const verify::DifferenceStats& stats) {
  return stats.elements == 0 ? 0 : static_cast<double>(stats.changed) / static_cast<double>(stats.elements);
}

// The largest value of the tensors of one kind in one layer, by kind and layer.
class Cells {
 public:
  void Add(const std::string& tensor, std::optional<double> value) {
    const auto layer = merge::LayerNumberOf(tensor);
    if (!layer || layer->number >= kMostLayers) return;
    const std::string kind = KindOf(tensor);
    std::optional<double>& cell = cells_[{KindOrder(kind), kind}][layer->number];
    if (value && std::isfinite(*value)) cell = std::max(cell.value_or(0), *value);
    num_layers_ = std::max<size_t>(num_layers_, layer->number + 1);
  }
  HeatMap Map(const std::string& title, std::string (*text)(double)) const {
    HeatMap map{.title = title, .rows = {}, .columns = num_layers_, .values = {}, .text = text};
    for (const auto& [kind, layers] : cells_) {
      map.rows.push_back(kind.second);
      for (size_t layer = 0; layer < num_layers_; ++layer) {
        const auto cell = layers.find(layer);
        map.values.push_back(cell == layers.end() ? std::nullopt : cell->second);
      }
    }
    return map;
  }
  bool empty() const { return cells_.empty(); }

 private:
  std::map<std::pair<size_t, std::string>, std::map<uint64_t, std::optional<double>>> cells_;
  size_t num_layers_ = 0;
};

std::string Drawn(const HeatMap& map, double least_span = 0) {
  const HeatScale scale(std::span(&map, 1), least_span);
  if (scale.empty()) return Note("Nothing is above 0.");
  return scale.Legend(map.text) + HtmlOf(map, scale);
}

std::string HtmlOfTables(const std::vector<Table>& tables, const char* style) {
  std::string html;
  for (const Table& table : tables) {
    if (table.empty()) continue;
    HtmlTable shown(table.headings(), style);
    for (const auto& row : table.rows()) shown.AddRow(row);
    html += shown.ToString();
    if (!table.note().empty()) html += Note(table.note());
  }
  return html;
}

const char* StyleOf(const verify::Verification& result) {
  switch (verify::VerdictExitStatus(result.verdict)) {
    case 0:
      return "same";
    case 5:
      return "open";
    default:
      return "other";
  }
}

// How many tensors have moved how far: of all that were compared as numbers, in steps of 1, 2 and 5.
std::string Distribution(const std::vector<TensorDiff>& unequal, uint64_t identical) {
  struct Step {
    double from, to;
    auto operator<=>(const Step&) const = default;
  };
  std::map<Step, uint64_t> steps;
  for (const TensorDiff& tensor : unequal) {
    if (!tensor.stats || !(tensor.stats->relative_l2 > 0) || !std::isfinite(tensor.stats->relative_l2)) continue;
    const double decade = std::pow(10, std::floor(std::log10(tensor.stats->relative_l2)));
    const double digit = tensor.stats->relative_l2 / decade;
    const Step step = digit < 2   ? Step{decade, 2 * decade}
                      : digit < 5 ? Step{2 * decade, 5 * decade}
                                  : Step{5 * decade, 10 * decade};
    ++steps[step];
  }
  if (steps.empty()) return "";
  DotChart chart{.title = "Tensors by relative L2 of their change", .x_title = "Tensors", .rows = {}};
  chart.rows.push_back({.name = "not at all", .value = static_cast<double>(identical)});
  for (const auto& [step, count] : steps) {
    chart.rows.push_back(
        {.name = fmt::format("{:.3g} to {:.3g}", step.from, step.to), .value = static_cast<double>(count)});
  }
  return fmt::format("<div class=\"wide\">{}</div>\n", SvgOf(chart));
}

std::string Differences(const VerificationPage& page) {
  const verify::Verification& result = page.result;
  if (!result.summary || result.summary->stopped_early) return "";
  std::map<std::string, const TensorDiff*> unequal;
  for (const TensorDiff& tensor : result.unequal) unequal.emplace(tensor.name, &tensor);
  Cells relative, changed;
  for (const std::string& name : page.tensors) {
    const auto found = unequal.find(name);
    if (found == unequal.end()) {
      relative.Add(name, 0.0);
      changed.Add(name, 0.0);
    } else if (found->second->stats) {
      relative.Add(name, found->second->stats->relative_l2);
      changed.Add(name, ChangedShare(*found->second->stats));
    } else {
      relative.Add(name, std::nullopt);
      changed.Add(name, std::nullopt);
    }
  }
  if (result.unequal.empty()) return "";
  std::string html = Heading("Where they differ");
  html += Paragraph(
      "Relative L2 is the length of the difference over the length of A's tensor, ‖a − b‖ / ‖a‖; at 0.01 the "
      "numbers have moved by about a hundredth of their size.");
  if (!relative.empty()) {
    html += Drawn(relative.Map("relative L2", L2Text)) + Drawn(changed.Map("share of numbers changed", ShareText), 0.2);
  }
  html += Distribution(result.unequal, result.summary->count(TensorClass::kIdentical));
  html += Heading("The tensors that differ most") + HtmlOfTables({TensorTable(result)}, "");
  return html;
}

}  // namespace

std::string HtmlOf(const VerificationPage& page) {
  const verify::Verification& result = page.result;
  std::string html =
      PageHead(fmt::format("{}: {} and {}", verify::VerdictName(result.verdict), result.ref_a, result.ref_b),
               kStyle + HeatStyle());
  html += "<h1>Are these two models the same?</h1>\n";
  html += fmt::format("<p class=\"verdict {}\">{}</p>\n", StyleOf(result), verify::VerdictName(result.verdict));
  html += Paragraph("Proves: " + verify::Proves(result.verdict, result.level) + ".");
  html += Paragraph("Does not prove: " + verify::DoesNotProve(result.verdict, result.level) + ".");

  HtmlTable sides({"", "Model", "Parameters", "Bytes", "Root"}, "models");
  const bool has_roots = result.summary && !result.summary->stopped_early;
  const auto root = [&](const kernels::Hash256& hash) {
    return has_roots ? kernels::ToHex(hash).substr(0, 16) + "…" : "not computed";
  };
  const verify::TensorSummary none;
  const verify::TensorSummary& summary = result.summary ? *result.summary : none;
  sides.AddRow({"A", result.ref_a, FormatCount(result.config.parameters_a), FormatBytes(result.config.bytes_a),
                root(summary.model_root_a)});
  sides.AddRow({"B", result.ref_b, FormatCount(result.config.parameters_b), FormatBytes(result.config.bytes_b),
                root(summary.model_root_b)});
  html += sides.ToString();
  for (const auto& [side, note] : {std::pair("A", &result.note_a), {"B", &result.note_b}}) {
    if (!note->empty()) html += Note(fmt::format("{} was computed with {}.", side, *note));
  }

  html += Heading("What was compared") + HtmlOfTables({LevelsTable(result)}, "words");
  if (result.sample) {
    html += Heading("What was drawn") + Paragraph(result.sample->Bound() + ".") +
            HtmlOfTables(SampleTables(*result.sample), "");
  }
  html += Differences(page);
  const std::string config = HtmlOfTables(ConfigTables(result.config, /*with_parts=*/true), "words");
  if (!config.empty()) html += Heading("Config, tokenizer and files") + config;

  html += Heading("What it took");
  html += Paragraph(fmt::format("{}, {} of weights read, {} of memory at most (budget {}).",
                                FormatSeconds(result.seconds), FormatBytes(result.bytes_read),
                                FormatMemory(result.peak_bytes), FormatMemory(result.budget_bytes)));
  return html + PageEnd();
}

}  // namespace sluice::report
