#include "report/svg_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/table.h"

namespace sluice::report {
namespace {

constexpr double kNarrowWidth = 460;  // fits a phone
constexpr double kWidth = 760, kPlotHeight = 280, kTop = 44, kRight = 24, kLeft = 76, kBelowAxis = 50;
constexpr double kLegendLine = 20, kCharWidth = 7.3;  // of 13 px sans-serif, a little over the mean
constexpr size_t kColours = 8, kMostNameChars = 44;

struct Scale {
  double low = 0, high = 1;  // values
  double from = 0, to = 1;   // pixels
  double At(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

std::string Px(double value) {
  std::string text = fmt::format("{:.1f}", value);
  return text == "-0.0" ? "0.0" : text;
}

// 1, 2 or 5 times a power of ten: about `count` steps over the range.
double StepFor(double range, int count) {
  const double rough = range / count, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string TickText(double value, double step) {
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  if (digits > 6) return fmt::format("{:.1e}", value);
  if (std::abs(value) < step / 2) value = 0;
  return fmt::format("{:.{}f}", value, digits);
}

// Widened to whole steps; a range of one value gets some room. Returns the step.
double RoundRange(double* low, double* high, int count) {
  if (*high - *low < 1e-12 * std::max({1e-12, std::abs(*low), std::abs(*high)})) {
    const double room = *high == 0 ? 1 : std::abs(*high) * 0.1;
    *low -= room;
    *high += room;
  }
  const double step = StepFor(*high - *low, count);
  *low = std::floor(*low / step + 1e-9) * step;
  *high = std::ceil(*high / step - 1e-9) * step;
  return step;
}

std::string Line(const char* style, double x1, double y1, double x2, double y2) {
  return fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", style, Px(x1), Px(y1), Px(x2),
                     Px(y2));
}

std::string Text(const char* style, double x, double y, const std::string& text) {
  return fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>\n", style, Px(x), Px(y), EscapeHtml(text));
}

// Long names keep both ends: what differs is often the last part.
std::string Shortened(const std::string& name, size_t most) {
  if (DisplayWidth(name) <= most) return name;
  const auto boundary = [&](size_t at) {  // not within a code point
    while (at < name.size() && (static_cast<unsigned char>(name[at]) & 0xC0) == 0x80) ++at;
    return at;
  };
  return name.substr(0, boundary(most / 2 - 1)) + "…" + name.substr(boundary(name.size() - most / 2));
}

std::string Head(const std::string& title, double height, double width = kWidth) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
             "height=\"{1}\">\n<title>{2}</title>\n",
             width, height, EscapeHtml(title)) +
         Text("charttitle", width / 2, 22, title);
}

class LineDrawing {
 public:
  explicit LineDrawing(const LineChart& chart) : chart_(chart) {}

  std::string Draw() {
    if (!FindRange()) return "";
    std::string body = Grid() + Series();
    const double axis_end = kTop + kPlotHeight;
    body += Text("axistitle", (kLeft + kWidth - kRight) / 2, axis_end + 40, chart_.x_title);
    body += fmt::format("<text class=\"axistitle\" transform=\"translate(18 {}) rotate(-90)\">{}</text>\n",
                        Px(kTop + kPlotHeight / 2), EscapeHtml(chart_.y_title));
    double legend_end = axis_end + kBelowAxis;
    body += Legend(&legend_end);
    return Head(chart_.title, std::ceil(legend_end)) + body + "</svg>\n";
  }

 private:
  bool IsDrawn(const ChartPoint& point) const { return !chart_.log_y || point.y > 0; }
  double Y(double value) const { return y_.At(chart_.log_y ? std::log10(value) : value); }

  // False where nothing is to be drawn.
  bool FindRange() {
    bool any = false;
    const auto widen = [&](double x, double y) {
      if (!any) x_.low = x_.high = x, y_.low = y_.high = y;
      any = true;
      x_.low = std::min(x_.low, x);
      x_.high = std::max(x_.high, x);
      y_.low = std::min(y_.low, y);
      y_.high = std::max(y_.high, y);
    };
    for (const ChartSeries& series : chart_.series) {
      for (const ChartPoint& point : series.points) {
        if (!IsDrawn(point)) continue;
        const double error = std::isfinite(point.error) && !chart_.log_y ? point.error : 0;
        const double y = chart_.log_y ? std::log10(point.y) : point.y;
        widen(point.x, y - error);
        widen(point.x, y + error);
      }
    }
    if (!any) return false;
    if (chart_.zero_line) widen(x_.low, 0);
    if (chart_.log_y) {
      y_.low = std::floor(y_.low);
      y_.high = std::max(std::ceil(y_.high), y_.low + 1);
      y_step_ = std::max(1.0, std::ceil((y_.high - y_.low) / 8));
    } else {
      y_step_ = RoundRange(&y_.low, &y_.high, 6);
    }
    if (chart_.categories.empty()) {
      x_step_ = RoundRange(&x_.low, &x_.high, 8);
    } else {
      x_.low = -0.5;
      x_.high = static_cast<double>(chart_.categories.size()) - 0.5;
    }
    x_.from = kLeft;
    x_.to = kWidth - kRight;
    y_.from = kTop + kPlotHeight;
    y_.to = kTop;
    return true;
  }

  std::string Grid() const {
    std::string text;
    for (int i = 0; y_.low + i * y_step_ <= y_.high + y_step_ * 1e-6; ++i) {
      const double value = y_.low + i * y_step_, y = y_.At(value);
      text += Line("grid", kLeft, y, kWidth - kRight, y);
      const std::string label = chart_.log_y ? fmt::format("1e{:.0f}", value) : TickText(value, y_step_);
      text += Text("ytick", kLeft - 8, y + 4, label);
    }
    if (chart_.zero_line) text += Line("zero", kLeft, Y(0), kWidth - kRight, Y(0));
    const double bottom = kTop + kPlotHeight;
    text += Line("axis", kLeft, bottom, kWidth - kRight, bottom);
    if (chart_.categories.empty()) {
      for (int i = 0; x_.low + i * x_step_ <= x_.high + x_step_ * 1e-6; ++i) {
        const double value = x_.low + i * x_step_, x = x_.At(value);
        text += Line("axis", x, bottom, x, bottom + 5) + Text("xtick", x, bottom + 19, TickText(value, x_step_));
      }
    }
    for (size_t i = 0; i < chart_.categories.size(); ++i) {
      const double x = x_.At(static_cast<double>(i));
      text += Line("axis", x, bottom, x, bottom + 5) + Text("xtick", x, bottom + 19, chart_.categories[i]);
    }
    return text;
  }

  std::string Series() const {
    std::string text;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      const ChartSeries& series = chart_.series[i];
      // Bars of several series side by side.
      const double aside = 5 * (static_cast<double>(i) - (static_cast<double>(chart_.series.size()) - 1) / 2);
      std::string path, marks;
      for (const ChartPoint& point : series.points) {
        if (!IsDrawn(point)) continue;
        const bool has_bar = std::isfinite(point.error) && point.error > 0 && !chart_.log_y;
        const double x = x_.At(point.x) + (has_bar ? aside : 0), y = Y(point.y);
        path += fmt::format("{}{} {}", path.empty() ? "M" : " L", Px(x), Px(y));
        if (has_bar) {
          const double top = Y(point.y + point.error), bottom = Y(point.y - point.error);
          marks += Line("bar", x, top, x, bottom) + Line("bar", x - 3, top, x + 3, top) +
                   Line("bar", x - 3, bottom, x + 3, bottom);
        }
        if (series.dots) marks += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3.2\"/>\n", Px(x), Px(y));
      }
      text += fmt::format("<g class=\"s{}{}\">\n<path d=\"{}\"/>\n{}</g>\n", series.colour % kColours,
                          series.wide ? " wide" : "", path, marks);
    }
    return text;
  }

  // From `end` on down, as many lines as it takes; moves `end`.
  std::string Legend(double* end) const {
    std::string text;
    double x = kLeft;
    *end += kLegendLine;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      const std::string name = Shortened(chart_.series[i].name, kMostNameChars);
      const double width = 34 + kCharWidth * static_cast<double>(DisplayWidth(name)) + 18;
      if (x > kLeft && x + width > kWidth) {
        x = kLeft;
        *end += kLegendLine;
      }
      text += fmt::format("<g class=\"s{}{}\">{}<circle cx=\"{}\" cy=\"{}\" r=\"3.2\"/></g>\n",
                          chart_.series[i].colour % kColours, chart_.series[i].wide ? " wide" : "",
                          Line("key", x, *end - 4, x + 26, *end - 4), Px(x + 13), Px(*end - 4));
      text += Text("legend", x + 34, *end, name);
      x += width;
    }
    *end += 12;
    return text;
  }

  const LineChart& chart_;
  Scale x_, y_;
  double x_step_ = 1, y_step_ = 1;
};

}  // namespace

std::string SvgOf(const LineChart& chart) { return LineDrawing(chart).Draw(); }

std::string SvgOf(const DotChart& chart) {
  if (chart.rows.empty()) return "";
  const double kRowHeight = chart.has_bars ? 22 : 30, kBarHeight = 14;
  constexpr size_t kMostChars = 36;
  const double width = chart.has_bars ? kNarrowWidth : kWidth;
  double names_end = 0;
  Scale x{.low = 0, .high = 0, .from = 0, .to = width - kRight};
  for (const auto& row : chart.rows) {
    const double error = std::isfinite(row.error) ? row.error : 0;
    x.low = std::min(x.low, row.value - error);
    x.high = std::max(x.high, row.value + error);
    names_end = std::max(names_end, kCharWidth * static_cast<double>(std::min(DisplayWidth(row.name), kMostChars)));
  }
  const double step = RoundRange(&x.low, &x.high, chart.has_bars ? 4 : 6);
  x.from = names_end + 40;
  const double bottom = kTop + kRowHeight * static_cast<double>(chart.rows.size());
  std::string text = Head(chart.title, bottom + kBelowAxis, width);
  for (int i = 0; x.low + i * step <= x.high + step * 1e-6; ++i) {
    const double value = x.low + i * step;
    text += Line("grid", x.At(value), kTop, x.At(value), bottom);
    text += Text("xtick", x.At(value), bottom + 19, TickText(value, step));
  }
  text += Line("zero", x.At(0), kTop, x.At(0), bottom) + Line("axis", x.from, bottom, x.to, bottom);
  text += Text("axistitle", (x.from + x.to) / 2, bottom + 40, chart.x_title);
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const auto& row = chart.rows[i];
    const double y = kTop + kRowHeight * (static_cast<double>(i) + 0.5), at = x.At(row.value);
    text += Text("ytick", x.from - 14, y + 4, Shortened(row.name, kMostChars));
    text += fmt::format("<g class=\"s{}\">\n", row.colour % kColours);
    if (std::isfinite(row.error) && row.error > 0) {
      const double low = x.At(row.value - row.error), high = x.At(row.value + row.error);
      text +=
          Line("bar", low, y, high, y) + Line("bar", low, y - 4, low, y + 4) + Line("bar", high, y - 4, high, y + 4);
    }
    if (chart.has_bars) {
      text += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n</g>\n", Px(std::min(at, x.At(0))),
                          Px(y - kBarHeight / 2), Px(std::abs(at - x.At(0))), Px(kBarHeight));
    } else {
      text += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"4\"/>\n</g>\n", Px(at), Px(y));
    }
  }
  return text + "</svg>\n";
}

std::string ChartStyle() {
  // Okabe and Ito's colours, which most colour-blind people tell apart; lighter ones where the page is dark.
  static constexpr const char* kLight[kColours] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                   "#e69f00", "#56b4e9", "#7a5195", "#555555"};
  static constexpr const char* kDark[kColours] = {"#4ba3db", "#ff8a3d", "#3ccfa3", "#e39dc4",
                                                  "#f2b93b", "#8fd0f7", "#b08fd0", "#bbbbbb"};
  std::string text =
      "svg { max-width: 100%; height: auto; display: block; margin: 1.2em 0; }\n"
      "svg text { font: 13px system-ui, sans-serif; fill: var(--text); }\n"
      "svg .charttitle { font-weight: 600; font-size: 15px; text-anchor: middle; }\n"
      "svg .axistitle, svg .xtick { text-anchor: middle; }\n"
      "svg .ytick { text-anchor: end; }\n"
      "svg .axis { stroke: var(--text); }\n"
      "svg .grid { stroke: var(--grid); }\n"
      "svg .zero { stroke: var(--text); stroke-dasharray: 5 4; }\n"
      "svg path { fill: none; stroke-width: 2; }\n"
      "svg .bar { stroke-width: 1.5; }\n"
      "svg .key { stroke-width: 2; }\n"
      "svg .wide { opacity: 0.55; } svg .wide path, svg .wide .key { stroke-width: 7; }\n";
  const auto add = [&text](const char* const* colours, const char* indent) {
    for (size_t i = 0; i < kColours; ++i) {
      text += fmt::format("{0}svg .s{1} {{ stroke: {2}; }} svg .s{1} circle, svg .s{1} rect {{ fill: {2}; }}\n", indent,
                          i, colours[i]);
    }
  };
  add(kLight, "");
  text += "@media (prefers-color-scheme: dark) {\n";
  add(kDark, "  ");
  return text + "}\n";
}

std::string EscapeHtml(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace sluice::report
