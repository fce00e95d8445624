// Charts as inline SVG: points, lines and error bars over axes with ticks at round numbers, titles and a legend.
// Colours come from the page's style sheet (classes s0 to s7 for series; axis, grid, zero), so that one drawing serves
// light and dark. Pure: the same input gives the same bytes.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::report {

// `error`: half the length of its bar; 0 or not finite: no bar. Other values are finite.
struct ChartPoint {
  double x = 0, y = 0, error = 0;
};

struct ChartSeries {
  std::string name;  // in the legend
  std::vector<ChartPoint> points;
  size_t colour = 0;  // any number: that of what the series shows, in all charts of a page
  bool wide = false;  // a broad pale line, which shows below others that lie on it
  bool dots = true;   // a mark at each point
};

struct LineChart {
  std::string title, x_title, y_title;  // titles of axes name their units
  std::vector<ChartSeries> series;
  std::vector<std::string> categories = {};  // where given, x is a place among them (0, 1, ...), and they label it
  bool zero_line = false;                    // y = 0 is in the picture, and drawn
  bool log_y = false;                        // decades; points at or below 0 are left out
};

// A row for each value, with its name at the left: values along x, error bars to both sides, a line at 0. With bars
// from 0 to the value in place of dots: for counts and shares.
struct DotChart {
  std::string title, x_title;
  bool has_bars = false;
  struct Row {
    std::string name;
    double value = 0, error = 0;
    size_t colour = 0;
  };
  std::vector<Row> rows;
};

// "<svg ...>...</svg>"; empty where there is no point to draw.
std::string SvgOf(const LineChart& chart);
std::string SvgOf(const DotChart& chart);

// What the classes of the drawings look like, for <style>.
std::string ChartStyle();

// Text within HTML: & < > and quotes escaped.
std::string EscapeHtml(const std::string& text);

}  // namespace sluice::report
