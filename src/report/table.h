// Table: columns of text, as wide as their widest cell, two spaces between them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::report {

class Table {
 public:
  // A heading that begins with '>' aligns its column to the right. Empty headings throughout: no heading line.
  explicit Table(std::vector<std::string> headings);
  // Missing cells are empty; more cells than headings are a defect.
  void AddRow(std::vector<std::string> cells);
  // Each line begins with `indent` and ends without spaces. Where `max_columns` is not 0 and the table is wider, the
  // widest columns that are aligned to the left are narrowed, to kLeastColumns at least, and their texts shortened.
  std::string ToString(std::string_view indent = "", size_t max_columns = 0) const;
  static constexpr size_t kLeastColumns = 12;
  bool empty() const { return rows_.empty(); }
  // A line below the table, where it is shown with others (TextOf) or on a page.
  void SetNote(std::string note) { note_ = std::move(note); }

  const std::vector<std::string>& headings() const { return headings_; }
  bool is_right(size_t column) const { return right_[column]; }
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }
  const std::string& note() const { return note_; }

 private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
  std::string note_;
};

// Tables one below the other, an empty line before each, indented by two; those without rows are left out.
std::string TextOf(const std::vector<Table>& tables);

// Columns that a text takes on a terminal: code points, not bytes.
size_t DisplayWidth(std::string_view text);

// `text` with "…" in place of its middle, where it takes more than `columns`: both ends of a tensor's name tell more
// than its middle.
std::string Shorten(std::string_view text, size_t columns);

}  // namespace sluice::report
