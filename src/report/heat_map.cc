#include "report/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "report/svg_chart.h"

namespace sluice::report {
namespace {

constexpr int kLevels = 9;
constexpr size_t kLayersPerTick = 5;

}  // namespace

HeatScale::HeatScale(std::span<const HeatMap> maps, double least_span) {
  for (const HeatMap& map : maps) {
    for (const std::optional<double>& value : map.values) {
      if (!value) continue;
      has_zero_ |= *value == 0;
      if (!(*value > 0)) continue;
      low_ = high_ > 0 ? std::min(low_, *value) : *value;
      high_ = std::max(high_, *value);
    }
  }
  if (least_span == 0) {
    is_logarithmic_ = high_ > 10 * low_;
  } else if (high_ > 0 && high_ - low_ < least_span) {
    low_ = std::clamp((low_ + high_ - least_span) / 2, 0.0, 1 - least_span);
    high_ = low_ + least_span;
  }
}

int HeatScale::Level(double value) const {
  if (!(value > 0)) return 0;
  if (!(high_ > low_)) return (kLevels + 1) / 2;
  const double place =
      is_logarithmic_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
  return 1 + std::clamp(static_cast<int>(place * kLevels), 0, kLevels - 1);
}

std::string HeatScale::Legend(std::string (*text)(double value)) const {
  if (empty()) return "";
  std::string html = fmt::format("<p class=\"scale\"><span>{}</span>", EscapeHtml(text(low_)));
  if (high_ > low_) {
    for (int level = 1; level <= kLevels; ++level) html += fmt::format("<i class=\"h{}\"></i>", level);
    html += fmt::format("<span>{}</span>", EscapeHtml(text(high_)));
  } else {
    html += fmt::format("<i class=\"h{}\"></i>", Level(high_));
  }
  if (is_logarithmic_) html += "<span>logarithmic</span>";
  if (has_zero_) html += fmt::format("<span class=\"zero\"><i class=\"h0\"></i>{}</span>", EscapeHtml(text(0)));
  return html + "</p>\n";
}

std::string HtmlOf(const HeatMap& map, const HeatScale& scale) {
  std::string html = fmt::format("<section><h3>{}</h3>\n<div class=\"wide\"><table class=\"heat\">\n<tr><th>layer</th>",
                                 EscapeHtml(map.title));
  for (size_t column = 0; column < map.columns; column += kLayersPerTick) {
    html += fmt::format("<th colspan=\"{}\">{}</th>", std::min(kLayersPerTick, map.columns - column), column);
  }
  html += "</tr>\n";
  for (size_t row = 0; row < map.rows.size(); ++row) {
    html += fmt::format("<tr><th>{}</th>", EscapeHtml(map.rows[row]));
    for (size_t column = 0; column < map.columns; ++column) {
      const std::optional<double>& value = map.values[row * map.columns + column];
      if (!value) {
        html += "<td></td>";
        continue;
      }
      html += fmt::format("<td class=\"h{}\" title=\"layer {}, {}: {}\"></td>", scale.Level(*value), column,
                          EscapeHtml(map.rows[row]), EscapeHtml(map.text(*value)));
    }
    html += "</tr>\n";
  }
  return html + "</table></div></section>\n";
}

std::string HeatStyle() {
  // Of one hue from pale to strong: lightness alone tells the order, so that it can be read without seeing colours.
  static constexpr std::array<const char*, kLevels> kLight = {"#e6f0f7", "#cfe2ef", "#b0d2e6", "#8dbfdc", "#67a8cf",
                                                              "#438fc0", "#2674ad", "#125a93", "#083f6d"};
  static constexpr std::array<const char*, kLevels> kDark = {"#1d2c38", "#1e3a4d", "#1f4a64", "#215d7e", "#28739a",
                                                             "#378bb3", "#55a5c9", "#85c3dd", "#c4e6f2"};
  std::string text =
      "h3 { font-size: 1em; margin: 1.4em 0 0.3em; }\n"
      "table.heat { border-collapse: separate; border-spacing: 1px; margin: 0; font-size: 0.8em; }\n"
      ".heat td { min-width: 0.6em; width: 1.6em; height: 1.3em; padding: 0; border: 0; border-radius: 2px; }\n"
      ".heat th { border: 0; padding: 0 0.5em 0 0; font-weight: 400; color: var(--muted); text-align: left; }\n"
      ".heat th:first-child { position: sticky; left: 0; background: var(--back); text-align: right; }\n"
      "p.scale { display: flex; align-items: center; flex-wrap: wrap; font-size: 0.85em; color: var(--muted); }\n"
      "p.scale i { width: 1.6em; height: 1.1em; } p.scale i.h0 { margin-right: 0.6em; }\n"
      "p.scale span.zero { display: inline-flex; align-items: center; white-space: nowrap; }\n"
      "p.scale span { margin: 0 0.6em; } p.scale span:first-child { margin-left: 0; }\n"
      ".h0 { background: repeating-linear-gradient(135deg, var(--grid) 0 2px, transparent 2px 4px); }\n";
  const auto add = [&text](const std::array<const char*, kLevels>& colours, const char* indent) {
    for (size_t i = 0; i < colours.size(); ++i) {
      text += fmt::format("{}.h{} {{ background: {}; }}\n", indent, i + 1, colours[i]);
    }
  };
  add(kLight, "");
  text += "@media (prefers-color-scheme: dark) {\n";
  add(kDark, "  ");
  return text + "}\n";
}

}  // namespace sluice::report
