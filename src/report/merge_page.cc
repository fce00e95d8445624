#include "report/merge_page.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/units.h"
#include "kernels/sha256.h"
#include "merge/merge_plan.h"
#include "merge/method.h"
#include "report/heat_map.h"
#include "report/html_page.h"
#include "report/svg_chart.h"
#include "report/tensor_kind.h"

namespace sluice::report {
namespace {

using merge::DistanceSums;
using merge::SignPairs;
using merge::TensorDistances;

constexpr size_t kMostPoints = 60;        // of a chart of rates
constexpr size_t kMostLayersBeside = 40;  // of maps that stand side by side
constexpr double kLeastShareSpan = 0.2;
constexpr const char* kNothing = "–";

constexpr const char* kStyle =
    "body { overflow-wrap: anywhere; }\n"
    "pre { overflow-x: auto; font-size: 0.85em; padding: 0.8em; border: 1px solid var(--grid); border-radius: 4px;\n"
    "  overflow-wrap: normal; }\n"
    "summary { cursor: pointer; }\n"
    ".models th:first-child, .models td:first-child { position: sticky; left: 0; background: var(--back); }\n"
    ".models td:nth-child(2) { white-space: normal; min-width: 9em; }\n"
    ".beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26em, 100%), 1fr)); gap: 0 2em; }\n"
    ".beside > section { min-width: 0; }\n"
    "@media (max-width: 44em) { div.wide svg { width: 38em; max-width: none; } }\n";

// Sums over the tensors of one cell: of the result, and by parent.
struct Cell {
  DistanceSums result;
  std::map<size_t, DistanceSums> parents;
  SignPairs signs;

  void Add(const TensorDistances& tensor) {
    result.Add(tensor.result);
    for (const TensorDistances::Parent& parent : tensor.parents) parents[parent.parent].Add(parent.sums);
    signs.Add(tensor.signs);
  }
};

std::string L2Text(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }
std::string ShareText(double value) {
  return value > 0 && value < 0.001 ? fmt::format("{:.2g} %", 100 * value) : fmt::format("{:.1f} %", 100 * value);
}
// `value` is 1 - cosine.
std::string CosineText(double value) {
  if (value == 0) return "1";
  return value < 1e-4 ? fmt::format("1 − {:.2g}", value) : fmt::format("{:.5f}", 1 - value);
}

// Far from 0, where numbers are near 1: a result that is the base's own numbers has exactly 1.
std::optional<double> OneMinusCosine(const DistanceSums& sums) {
  const std::optional<double> cosine = sums.Cosine();
  if (!cosine) return std::nullopt;
  return sums.difference_squared == 0 ? 0 : std::max(0.0, 1 - *cosine);
}
std::optional<double> RelativeL2(const DistanceSums& sums) { return sums.RelativeL2(); }
std::optional<double> Changed(const DistanceSums& sums) { return sums.Changed(); }

using Figure = std::optional<double> (*)(const DistanceSums&);

std::string TextOr(const std::optional<double>& value, std::string (*text)(double)) {
  return value && std::isfinite(*value) ? text(*value) : kNothing;
}

// The last part of a reference: of a path, its name.
std::string LastPart(const std::string& reference) {
  const size_t end = reference.find_last_not_of('/');
  if (end == std::string::npos) return reference;
  const size_t slash = reference.rfind('/', end);
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return reference.substr(begin, end + 1 - begin);
}

class Writing {
 public:
  explicit Writing(const MergePage& page) : page_(page) {
    size_t num_models = 0;
    for (const auto& parent : page.parents) {
      const std::string last = LastPart(parent.reference);
      const bool is_clear = std::ranges::count_if(page.parents, [&](const auto& other) {
                              return LastPart(other.reference) == last;
                            }) == 1;
      names_.push_back(is_clear ? last : parent.reference);
      roles_.push_back(parent.is_base ? "base" : fmt::format("model {}", ++num_models));
    }
    for (const TensorDistances& tensor : page.distances) {
      references_.insert(tensor.reference);
      all_.Add(tensor);
      const std::string kind = KindOf(tensor.name);
      by_kind_[{KindOrder(kind), kind}].Add(tensor);
      const auto layer = merge::LayerNumberOf(tensor.name);
      if (!layer || layer->number >= kMostLayers) continue;
      layers_[{KindOrder(kind), kind}][layer->number].Add(tensor);
      num_layers_ = std::max<size_t>(num_layers_, layer->number + 1);
    }
  }

  std::string Html() const {
    const MergeResult& result = page_.result;
    std::string html = PageHead(fmt::format("Merge {}", LastPart(result.written.output)), kStyle + HeatStyle());
    html += fmt::format("<h1>{}</h1>\n", EscapeHtml(LastPart(result.written.output)));
    html += Paragraph(fmt::format("A merge by {}, {} arithmetic, seed {}: {} tensors, {}. Root {}", result.method,
                                  result.arithmetic, result.seed, FormatCount(result.written.digest.tensors.size()),
                                  FormatBytes(result.written.bytes_written),
                                  kernels::ToHex(result.written.digest.model_root)));
    if (page_.method != nullptr) html += Note(std::string(page_.method->summary));
    html += Heading("Parents") + ParentsTable();
    for (const TensorNans& nan : result.nans) {
      html += Paragraph(fmt::format("{}: {} of the merged numbers are NaN.", nan.name, FormatCount(nan.count)));
    }
    html += Distances() + Took();
    html += Heading("Recipe") + fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n",
                                            EscapeHtml(page_.recipe_path), EscapeHtml(page_.recipe_text));
    return html + PageEnd();
  }

 private:
  using Kind = std::pair<size_t, std::string>;
  static constexpr uint64_t kMostLayers = 1024;

  const DistanceSums* SumsOf(const Cell& cell, size_t parent) const {
    const auto found = cell.parents.find(parent);
    return found == cell.parents.end() ? nullptr : &found->second;
  }

  // "0.5", or "0.2 to 0.8" where it differs by layer or tensor.
  std::string ParameterText(size_t parent, size_t parameter) const {
    std::optional<double> low, high;
    for (const TensorDistances& tensor : page_.distances) {
      for (const TensorDistances::Parent& side : tensor.parents)
        AddRange(side.parent, side.values, parent, parameter, &low, &high);
      AddRange(tensor.reference, tensor.reference_values, parent, parameter, &low, &high);
    }
    if (!low) return kNothing;
    const auto text = [&](double value) -> std::string {
      const merge::ParameterType type = page_.method->parameters[parameter].type;
      if (type == merge::ParameterType::kBoolOrDensity && value == merge::kDensityWord) return "density";
      if (type != merge::ParameterType::kNumber) return value != 0 ? "yes" : "no";
      return fmt::format("{:.6g}", value);
    };
    return *low == *high ? text(*low) : fmt::format("{} to {}", text(*low), text(*high));
  }
  static void AddRange(size_t of, const merge::ParameterValues& values, size_t parent, size_t parameter,
                       std::optional<double>* low, std::optional<double>* high) {
    if (of != parent || parameter >= values.size()) return;
    const double value = values[parameter];
    *low = std::min(low->value_or(value), value);
    *high = std::max(high->value_or(value), value);
  }

  std::string ParentsTable() const {
    std::vector<std::string> headings = {"", "Model", "Size"};
    std::vector<size_t> parameters;
    for (size_t i = 0; page_.method != nullptr && i < page_.method->parameters.size(); ++i) {
      const merge::ParameterInfo& info = page_.method->parameters[i];
      if (info.scope != merge::ParameterScope::kModel || !info.used) continue;
      parameters.push_back(i);
      headings.emplace_back(info.name);
    }
    headings.insert(headings.end(), {"Relative L2", "Cosine", "Changed"});
    HtmlTable table(headings, "models");
    const auto add = [&](std::vector<std::string> cells, const DistanceSums* sums) {
      cells.push_back(sums == nullptr ? kNothing : TextOr(RelativeL2(*sums), L2Text));
      cells.push_back(sums == nullptr ? kNothing : TextOr(OneMinusCosine(*sums), CosineText));
      cells.push_back(sums == nullptr ? kNothing : TextOr(Changed(*sums), ShareText));
      table.AddRow(cells);
    };
    for (size_t parent = 0; parent < page_.parents.size(); ++parent) {
      const auto& info = page_.parents[parent];
      std::vector<std::string> cells = {roles_[parent], info.reference, FormatBytes(info.size_bytes)};
      for (const size_t parameter : parameters) cells.push_back(ParameterText(parent, parameter));
      add(std::move(cells), SumsOf(all_, parent));
    }
    std::vector<std::string> cells = {"result", page_.result.written.output,
                                      FormatBytes(page_.result.written.bytes_written)};
    cells.resize(cells.size() + parameters.size());
    add(std::move(cells), page_.distances.empty() ? nullptr : &all_.result);
    return table.ToString();
  }

  std::string Reference() const {
    if (references_.size() != 1) return "the base of each slice";
    const size_t reference = *references_.begin();
    if (page_.parents[reference].is_base) return fmt::format("the base, {}", names_[reference]);
    return fmt::format("{}, the first of the models, since the recipe names no base", names_[reference]);
  }

  HeatMap MapOf(const std::string& title, std::string (*text)(double),
                const std::function<std::optional<double>(const Cell&)>& figure) const {
    HeatMap map{.title = title, .rows = {}, .columns = num_layers_, .values = {}, .text = text};
    for (const auto& [kind, cells] : layers_) {
      map.rows.push_back(kind.second);
      for (size_t layer = 0; layer < num_layers_; ++layer) {
        const auto cell = cells.find(layer);
        std::optional<double> value = cell == cells.end() ? std::nullopt : figure(cell->second);
        if (value && !std::isfinite(*value)) value.reset();
        map.values.push_back(value);
      }
    }
    return map;
  }

  // A map for each parent and the result, under one scale.
  std::string Maps(Figure figure, std::string (*text)(double)) const {
    std::vector<HeatMap> maps = {MapOf("result", text, [&](const Cell& cell) { return figure(cell.result); })};
    for (const auto& [parent, sums] : all_.parents) {
      maps.push_back(
          MapOf(fmt::format("{}: {}", roles_[parent], names_[parent]), text, [&, parent = parent](const Cell& cell) {
            const DistanceSums* of_parent = SumsOf(cell, parent);
            return of_parent == nullptr ? std::nullopt : figure(*of_parent);
          }));
    }
    return Drawn(maps, text);
  }

  static std::string Drawn(const std::vector<HeatMap>& maps, std::string (*text)(double), double least_span = 0) {
    const HeatScale scale(maps, least_span);
    if (scale.empty()) return Note("Nothing is above 0.");
    const bool are_narrow = maps.front().columns <= kMostLayersBeside;
    std::string html = scale.Legend(text) + (are_narrow ? "<div class=\"beside\">\n" : "<div>\n");
    for (const HeatMap& map : maps) html += HtmlOf(map, scale);
    return html + "</div>\n";
  }

  std::string KindTable() const {
    std::vector<std::string> headings = {"Relative L2", "result"};
    for (const auto& [parent, sums] : all_.parents) headings.push_back(roles_[parent]);
    headings.emplace_back("Result changed");
    if (all_.signs.all > 0) headings.emplace_back("Same sign");
    HtmlTable table(headings);
    const auto add = [&](const std::string& name, const Cell& cell) {
      std::vector<std::string> cells = {name, TextOr(RelativeL2(cell.result), L2Text)};
      for (const auto& [parent, unused] : all_.parents) {
        const DistanceSums* sums = SumsOf(cell, parent);
        cells.push_back(sums == nullptr ? kNothing : TextOr(RelativeL2(*sums), L2Text));
      }
      cells.push_back(TextOr(Changed(cell.result), ShareText));
      if (all_.signs.all > 0) cells.push_back(TextOr(cell.signs.Agreement(), ShareText));
      table.AddRow(cells);
    };
    for (const auto& [kind, cell] : by_kind_) add(kind.second, cell);
    add("all", all_);
    return table.ToString();
  }

  std::string NotMeasured() const {
    std::string html;
    if (page_.num_resumed > 0) {
      html += Note(fmt::format("{} tensors were finished in an earlier run, and are not in these figures.",
                               FormatCount(page_.num_resumed)));
    }
    if (page_.num_carried > 0) {
      html += Note(fmt::format("{} tensors were carried over as they are stored, or have nothing to be compared with.",
                               FormatCount(page_.num_carried)));
    }
    return html;
  }

  std::string Distances() const {
    if (page_.distances.empty()) return NotMeasured();
    std::string html = Heading("How far from the base");
    html +=
        Paragraph(fmt::format("Compared with {}. Relative L2 is the length of the difference over the length of the "
                              "base, ‖x − b‖ / ‖b‖; at "
                              "0.01 the numbers have moved by about a hundredth of their size.",
                              Reference()));
    if (layers_.empty()) return html + KindTable() + NotMeasured();
    html += Maps(RelativeL2, L2Text);
    html += Heading("By kind of tensor, all layers together") + KindTable() + NotMeasured();
    html += Heading("Cosine");
    html += Paragraph(
        "Of the angle between x and the base: 1 where one is a multiple of the other. Strong colours are far from 1.");
    html += Maps(OneMinusCosine, CosineText);
    html += Heading("What was kept");
    html += Paragraph(
        "The share of the result's numbers that are not those of the base, rounded as the result is: what sparse "
        "methods "
        "let through, less what rounding swallows.");
    html += Drawn({MapOf("result", ShareText, [](const Cell& cell) { return cell.result.Changed(); })}, ShareText,
                  kLeastShareSpan);
    if (all_.signs.all == 0) return html;
    html += Heading("Where the parents agree");
    html += Paragraph(
        "Of all pairs of models, at each number where both differ from the base: the share that moved it the same way. "
        "About 50 % is chance.");
    html += Drawn({MapOf("models", ShareText, [](const Cell& cell) { return cell.signs.Agreement(); })}, ShareText,
                  kLeastShareSpan);
    return html;
  }

  std::string Took() const {
    std::string html = Heading("What it took");
    if (!page_.has_run) return html + Paragraph("All tensors were finished in an earlier run.");
    const report::WriteResult& written = page_.result.written;
    const stream::Plan& plan = page_.plan;
    HtmlTable table({"", "planned", "took"});
    table.AddRow({"time of the pass", FormatSeconds(plan.seconds), FormatSeconds(page_.pass_seconds)});
    table.AddRow({"time of the command", "", FormatSeconds(written.seconds)});
    table.AddRow({"read", FormatBytes(plan.read_bytes), FormatBytes(written.bytes_read)});
    table.AddRow({"written", "", FormatBytes(written.bytes_written)});
    table.AddRow({"memory at most", FormatMemory(plan.peak_bytes), FormatMemory(written.peak_memory_bytes)});
    html += table.ToString();
    html += Note(fmt::format("{} {}, read by {}, tiles of {}, a budget of {}. {}", plan.num_threads,
                             plan.num_threads == 1 ? "thread" : "threads", plan.reader, FormatMemory(plan.tile_bytes),
                             FormatMemory(plan.budget_bytes),
                             "The figures above were taken from what the merge read: nothing was read for them."));
    return html + Charts();
  }

  std::string Charts() const {
    // What was read before the first tile came is known when it came.
    std::vector<TraceSample> samples;
    for (const TraceSample& sample : page_.samples) {
      if (samples.empty() || sample.read_bytes > 0) samples.push_back(sample);
    }
    if (samples.size() < 3) return "";
    ChartSeries read{.name = "read", .points = {}, .colour = 0, .dots = false};
    ChartSeries written{.name = "written", .points = {}, .colour = 1, .dots = false};
    ChartSeries resident{.name = "resident", .points = {}, .colour = 2, .dots = false};
    const size_t step = CeilDiv(samples.size(), kMostPoints);
    for (size_t begin = 0; begin + 1 < samples.size(); begin += step) {
      const TraceSample& a = samples[begin];
      const TraceSample& b = samples[std::min(begin + step, samples.size() - 1)];
      const double seconds = b.seconds - a.seconds;
      if (!(seconds > 0)) continue;
      const auto rate = [&](uint64_t before, uint64_t after) {
        return static_cast<double>(after - std::min(before, after)) / seconds / 1e6;
      };
      read.points.push_back({(a.seconds + b.seconds) / 2, rate(a.read_bytes, b.read_bytes)});
      written.points.push_back({(a.seconds + b.seconds) / 2, rate(a.written_bytes, b.written_bytes)});
    }
    for (const TraceSample& sample : page_.samples) {
      resident.points.push_back({sample.seconds, static_cast<double>(sample.resident_bytes) / kMiB});
    }
    const double end = samples.back().seconds, planned = static_cast<double>(page_.plan.peak_bytes) / kMiB;
    const ChartSeries most{
        .name = "planned at most", .points = {{0, planned}, {end, planned}}, .colour = 7, .dots = false};
    const LineChart rates{.title = "Rates over time",
                          .x_title = "Seconds since the pass began",
                          .y_title = "MB per second",
                          .series = {read, written},
                          .zero_line = true};
    const LineChart memory{.title = "Memory over time",
                           .x_title = "Seconds since the pass began",
                           .y_title = "MiB resident",
                           .series = {resident, most},
                           .zero_line = true};
    return fmt::format("<div class=\"wide\">{}</div>\n<div class=\"wide\">{}</div>\n", SvgOf(rates), SvgOf(memory));
  }

  const MergePage& page_;
  std::vector<std::string> names_, roles_;  // of the parents: "SmolLM2", "model 1"
  std::set<size_t> references_;
  Cell all_;
  std::map<Kind, Cell> by_kind_;
  std::map<Kind, std::map<uint64_t, Cell>> layers_;
  size_t num_layers_ = 0;
};

}  // namespace

std::string HtmlOf(const MergePage& page) { return Writing(page).Html(); }

}  // namespace sluice::report
