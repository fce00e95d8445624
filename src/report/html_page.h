// What the pages share: one HTML file without external resources, light and dark by what the reader prefers, readable
// on a phone. All texts are escaped.
#pragma once

#include <string>
#include <vector>

#include "report/table.h"

namespace sluice::report {

class HtmlTable {
 public:
  // `style`: classes of the style sheet, or empty. "cards": on a phone each row is a card, its cells one below the
  // other beside their headings, and nothing scrolls sideways.
  explicit HtmlTable(const std::vector<std::string>& headings, std::string style = "");
  // With its rows, and its columns aligned as they are there.
  explicit HtmlTable(const Table& table, std::string style = "");
  void AddRow(const std::vector<std::string>& cells);
  std::string ToString() const;

 private:
  void Add(const std::vector<std::string>& cells, const char* tag);
  std::string style_, rows_;
  std::vector<std::string> labels_;  // of columns, where rows may become cards
  std::vector<bool> is_text_;        // by column: aligned to the left wherever it is; empty: as the style says
};

// Tables one below the other, with their notes; those without rows are left out.
std::string HtmlOf(const std::vector<Table>& tables, const std::string& style = "");

// Until <body>; `more_style` goes into the style sheet.
std::string PageHead(const std::string& title, const std::string& more_style = "");
std::string PageEnd();
// Escaped; a long name, without spaces, may be broken where its parts end.
std::string Breakable(const std::string& text);
std::string Paragraph(const std::string& text);
std::string Note(const std::string& text);  // a paragraph, paler
std::string Wide(const std::string& html);  // scrolls where the screen is narrower
std::string Heading(const std::string& text);

}  // namespace sluice::report
