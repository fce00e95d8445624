#include "report/table.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::report {

size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Shorten(std::string_view text, size_t columns) {
  const size_t width = DisplayWidth(text);
  if (width <= columns || columns == 0) return std::string(text);
  const auto is_start = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  // The byte at which the code point of this number begins.
  const auto place_of = [&](size_t number) {
    size_t at = 0;
    for (size_t seen = 0; at < text.size(); ++at) {
      if (is_start(text[at]) && seen++ == number) break;
    }
    return at;
  };
  const size_t head = (columns - 1) / 2, tail = columns - 1 - head;
  return std::string(text.substr(0, place_of(head))) + "…" + std::string(text.substr(place_of(width - tail)));
}

Table::Table(std::vector<std::string> headings) : headings_(std::move(headings)) {
  for (std::string& heading : headings_) {
    right_.push_back(heading.starts_with('>'));
    if (right_.back()) heading.erase(0, 1);
  }
}

void Table::AddRow(std::vector<std::string> cells) {
  SLUICE_CHECK(cells.size() <= headings_.size());
  cells.resize(headings_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::ToString(std::string_view indent, size_t max_columns) const {
  std::vector<size_t> widths;
  widths.reserve(headings_.size());
  for (const std::string& heading : headings_) widths.push_back(DisplayWidth(heading));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  size_t total = indent.size() + 2 * (widths.size() - 1);
  for (const size_t width : widths) total += width;
  while (max_columns > 0 && total > max_columns) {
    size_t widest = widths.size();
    for (size_t i = 0; i < widths.size(); ++i) {
      if (!right_[i] && widths[i] > kLeastColumns && (widest == widths.size() || widths[i] > widths[widest]))
        widest = i;
    }
    if (widest == widths.size()) break;
    --widths[widest];
    --total;
  }
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line(indent);
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      const std::string cell = Shorten(row[i], widths[i]);
      const std::string pad(widths[i] - DisplayWidth(cell), ' ');
      line += right_[i] ? pad + cell : cell + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  if (std::ranges::any_of(headings_, [](const std::string& heading) { return !heading.empty(); })) add(headings_);
  for (const auto& row : rows_) add(row);
  return text;
}

std::string TextOf(const std::vector<Table>& tables) {
  std::string text;
  for (const Table& table : tables) {
    if (table.empty()) continue;
    text += "\n" + table.ToString("  ");
    if (!table.note().empty()) text += "  " + table.note() + "\n";
  }
  return text;
}

}  // namespace sluice::report
