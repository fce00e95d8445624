// svg_plot OUT.svg < CHART.json: a chart for the documents, from figures that a bench measured. The same figures give
// the same bytes.
//
//   {"title": ..., "x_title": ..., "y_title": ..., "log_y": false, "categories": ["a", "b"],
//    "series": [{"name": ..., "points": [[x, y], ...]}]}
//
// With categories x is a place among them. Series take the page's colours in turn.
#include <cstdio>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "stand_alone_svg.h"

namespace {

sluice::report::LineChart ChartOf(const nlohmann::json& json) {
  sluice::report::LineChart chart;
  chart.title = json.at("title");
  chart.x_title = json.at("x_title");
  chart.y_title = json.at("y_title");
  chart.log_y = json.value("log_y", false);
  for (const auto& category : json.value("categories", nlohmann::json::array())) chart.categories.push_back(category);
  for (const auto& series : json.at("series")) {
    chart.series.push_back({.name = series.at("name"), .points = {}, .colour = chart.series.size()});
    for (const auto& point : series.at("points")) chart.series.back().points.push_back({point.at(0), point.at(1)});
  }
  return chart;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: svg_plot OUT.svg < CHART.json\n");
    return 2;
  }
  try {
    if (WriteStandAloneSvg(argv[1], ChartOf(nlohmann::json::parse(std::cin)))) return 0;
    std::fprintf(stderr, "svg_plot: %s cannot be written\n", argv[1]);
  } catch (const nlohmann::json::exception& error) {
    std::fprintf(stderr, "svg_plot: %s\n", error.what());
  }
  return 1;
}
