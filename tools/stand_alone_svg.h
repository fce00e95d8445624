// A chart of report/svg_chart.h as a file of its own, for documents.
#pragma once

#include <fstream>
#include <string>

#include "report/svg_chart.h"

// The page's style sheet has its colours as variables; a file of its own brings them, and stays light.
inline std::string StandAloneSvg(const std::string& svg) {
  const std::string style = sluice::report::ChartStyle();
  const size_t end = svg.find('>') + 1;
  return svg.substr(0, end) + "\n<style>\nsvg { --text: #222; --grid: #ddd; background: #fff; }\n" +
         style.substr(0, style.find("@media")) + "</style>" + svg.substr(end);
}

// False where it cannot be written.
inline bool WriteStandAloneSvg(const std::string& path, const sluice::report::LineChart& chart) {
  std::ofstream file(path);
  file << StandAloneSvg(SvgOf(chart));
  return static_cast<bool>(file.flush());
}
