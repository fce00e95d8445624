// What the pages share: one HTML file without external resources, light and dark by what the reader prefers, readable
// on a phone. All texts are escaped.
#pragma once

#include <string>
#include <vector>

namespace sluice::report {

class HtmlTable {
 public:
  // `style`: a class of the style sheet, or empty.
  explicit HtmlTable(const std::vector<std::string>& headings, std::string style = "");
  void AddRow(const std::vector<std::string>& cells);
  std::string ToString() const;

 private:
  void Add(const std::vector<std::string>& cells, const char* tag);
  std::string style_, rows_;
};

// Until <body>; `more_style` goes into the style sheet.
std::string PageHead(const std::string& title, const std::string& more_style = "");
std::string PageEnd();
std::string Paragraph(const std::string& text);
std::string Note(const std::string& text);  // a paragraph, paler
std::string Heading(const std::string& text);

}  // namespace sluice::report
