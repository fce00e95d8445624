// Heat maps as HTML tables: rows of names, a column for each layer, cells in nine colours of the page's style sheet
// (classes h1 to h9; h0 where a value is 0; none where there is no value), each with its value as a tooltip. The names
// stay in sight where a narrow screen scrolls. Pure: the same input gives the same bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sluice::report {

struct HeatMap {
  std::string title;
  std::vector<std::string> rows;
  size_t columns = 0;                           // layers, from 0
  std::vector<std::optional<double>> values;    // at row * columns + column; finite and not negative
  std::string (*text)(double value) = nullptr;  // of a value, for its tooltip and the legend
};

// From values to colours, for all maps that are to be compared.
class HeatScale {
 public:
  // Logarithmic where the values above 0 span more than a factor of ten. `least_span`: for shares, which lie from 0 to
  // 1 and are never logarithmic: the scale is at least as wide as this, so that noise looks like noise.
  explicit HeatScale(std::span<const HeatMap> maps, double least_span = 0);
  // 1 to 9; 0 for 0.
  int Level(double value) const;
  // Whether there is a value above 0.
  bool empty() const { return high_ <= 0; }
  std::string Legend(std::string (*text)(double value)) const;

 private:
  double low_ = 0, high_ = 0;
  bool is_logarithmic_ = false, has_zero_ = false;
};

std::string HtmlOf(const HeatMap& map, const HeatScale& scale);

// What the classes look like, for <style>.
std::string HeatStyle();

}  // namespace sluice::report
