#include "report/change_page.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/units.h"
#include "merge/merge_plan.h"
#include "report/change_report.h"
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
constexpr int kFarBucket = 12;  // 2,049 units and more

std::string L2Text(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }
std::string ShareText(double value) {
  return value > 0 && value < 0.001 ? fmt::format("{:.2g} %", 100 * value) : fmt::format("{:.1f} %", 100 * value);
}

double ChangedShare(const verify::DifferenceStats& stats) {
  return stats.elements == 0 ? 0 : static_cast<double>(stats.changed) / static_cast<double>(stats.elements);
}

// "the changes are ...": as a sentence of its own.
std::string Sentence(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text + ".";
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

std::string Maps(const std::map<std::string, const TensorDiff*>& unequal, const std::vector<std::string>& tensors) {
  Cells relative, changed;
  for (const std::string& name : tensors) {
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
  if (relative.empty()) return "";
  return Heading("Where they differ") +
         Paragraph(
             "Relative L2 is the length of the difference over the length of A's tensor, ‖a − b‖ / ‖a‖; at 0.01 the "
             "numbers have moved by about a hundredth of their size.") +
         Drawn(relative.Map("relative L2", L2Text)) + Drawn(changed.Map("share of numbers changed", ShareText), 0.2);
}

std::string Ranks(const verify::Verification& result) {
  const Table table = RankTable(result);
  if (table.empty()) return "";
  return Heading("In how many directions") +
         Paragraph(
             "The rank of a change is the number of directions that stand out from what rounding does. A merged LoRA "
             "has its own rank wherever it was merged; training without one has full rank.") +
         HtmlOf({table}, "words cards");
}

// How many tensors have moved how far: of all that were compared as numbers, in steps of 1, 2 and 5.
std::string TensorsByDistance(const std::vector<TensorDiff>& unequal, uint64_t identical) {
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
  DotChart chart{.title = "Tensors by relative L2 of their change", .x_title = "Tensors", .has_bars = true, .rows = {}};
  chart.rows.push_back({.name = "not at all", .value = static_cast<double>(identical)});
  for (const auto& [step, count] : steps) {
    chart.rows.push_back(
        {.name = fmt::format("{:.3g} to {:.3g}", step.from, step.to), .value = static_cast<double>(count)});
  }
  return SvgOf(chart);
}

std::string NumbersByUnits(const verify::ChangeSummary& changes) {
  const uint64_t counted = changes.units.total();
  if (counted == 0) return "";
  DotChart chart{.title = fmt::format("Changed numbers by units in the last place ({})", changes.unit_encoding),
                 .x_title = "Percent of the changed numbers",
                 .has_bars = true,
                 .rows = {}};
  const auto percent = [&](uint64_t count) {
    return 100 * static_cast<double>(count) / static_cast<double>(changes.units_changed);
  };
  if (changes.units_changed > counted) {
    chart.rows.push_back({.name = "0, once rounded", .value = percent(changes.units_changed - counted)});
  }
  int last = kernels::kUnitBuckets - 1;
  while (changes.units.counts[static_cast<size_t>(last)] == 0) --last;
  for (int i = 0; i <= last; ++i) {
    chart.rows.push_back({.name = UnitBucketText(i), .value = percent(changes.units.counts[static_cast<size_t>(i)])});
  }
  std::string note = fmt::format("Of {} numbers that changed; {} of them changed their sign.",
                                 FormatCount(changes.units_changed), FormatCount(changes.units.sign_changes));
  if (last >= kFarBucket) {
    note += " Between zero and numbers of usual size lie thousands of units: what became zero, or crossed it, is far.";
  }
  return SvgOf(chart) + Note(note);
}

std::string Distributions(const verify::Verification& result) {
  std::string html;
  for (const std::string& chart : {TensorsByDistance(result.unequal, result.summary->count(TensorClass::kIdentical)),
                                   result.changes ? NumbersByUnits(*result.changes) : ""}) {
    if (!chart.empty()) html += fmt::format("<div>{}</div>\n", chart);
  }
  return html.empty() ? "" : Heading("By how much") + fmt::format("<div class=\"charts\">{}</div>\n", html);
}

std::string Lines(const std::vector<ChangeLine>& lines) {
  Table table({"", ""});
  for (const ChangeLine& line : lines) table.AddRow({line.heading, line.text});
  return HtmlOf({table}, "words");
}

}  // namespace

std::string HtmlOfFindings(const verify::Verification& result) {
  std::string html;
  for (const std::string& warning : GridWarnings(result)) {
    html += fmt::format("<p class=\"warning\">{}</p>\n", EscapeHtml(warning + "."));
  }
  if (result.changes && !result.changes->sentence.empty()) html += Paragraph(Sentence(result.changes->sentence));
  return html;
}

std::string HtmlOfChanges(const verify::Verification& result, const std::vector<std::string>& tensors) {
  if (!result.summary) return "";
  if (result.summary->stopped_early) {
    std::string html;
    for (const TensorDiff& tensor : result.unequal) html += Lines(FirstDifferenceLines(tensor));
    return html.empty() ? "" : Heading("The first difference") + html;
  }
  std::string html;
  if (!result.unequal.empty()) {
    std::vector<ChangeLine> lines = ChangeLines(result);
    std::erase_if(lines, [](const ChangeLine& line) { return line.heading == "changes"; });  // among the findings
    if (!lines.empty()) html += Heading("What changed") + Lines(lines);
    std::map<std::string, const TensorDiff*> unequal;
    for (const TensorDiff& tensor : result.unequal) unequal.emplace(tensor.name, &tensor);
    html += Maps(unequal, tensors) + Ranks(result) + Distributions(result);
    const Table most = TensorTable(result);
    if (!most.empty()) html += Heading("The tensors that differ most") + HtmlOf({most}, "tensors cards");
  }
  const Table grids = GridTable(result);
  if (!grids.empty()) {
    html += Heading("Grids of quantisations") +
            Paragraph(
                "Numbers that were stored in blocks of few levels are still on these levels' grid after they were "
                "written as plain floats.") +
            HtmlOf({grids}, "cards");
  }
  return html;
}

std::string ChangeStyle() {
  return "p.warning { padding: 0.5em 0.8em; border-left: 0.35em solid #b8860b; }\n"
         "div.charts { display: flex; flex-wrap: wrap; gap: 0 2em; }\n"
         "div.charts > div { max-width: 29em; }\n"
         "table.tensors td:first-child { min-width: 9em; }\n"
         "@media (max-width: 44em) { table.tensors td:first-child { min-width: 0; white-space: normal; } }\n" +
         HeatStyle();
}

}  // namespace sluice::report
