// Table: columns of text, as wide as their widest cell, two spaces between them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::report {

class Table {
 public:
  // A heading that begins with '>' aligns its column to the right. Empty headings throughout: no heading line.
  explicit Table(std::vector<std::string> headings);
  // Missing cells are empty; more cells than headings are a defect.
  void AddRow(std::vector<std::string> cells);
  // Each line begins with `indent` and ends without spaces.
  std::string ToString(std::string_view indent = "") const;
  bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// Columns that a text takes on a terminal: code points, not bytes.
size_t DisplayWidth(std::string_view text);

}  // namespace sluice::report
