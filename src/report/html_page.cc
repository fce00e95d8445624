#include "report/html_page.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "report/svg_chart.h"

namespace sluice::report {
namespace {

constexpr const char* kStyle =
    ":root { color-scheme: light dark; --text: #1c1c1c; --muted: #5c5c5c; --back: #ffffff; --grid: #dddddd; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --text: #e8e8e8; --muted: #a8a8a8; --back: #16181c; --grid: #3a3d44; }\n"
    "}\n"
    "body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);\n"
    "  max-width: 64em; margin: 2em auto; padding: 0 1em; }\n"
    "h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }\n"
    "p.note { color: var(--muted); }\n"
    "div.wide { overflow-x: auto; }\n"
    "table { border-collapse: collapse; font-size: 0.9em; margin: 0.8em 0; font-variant-numeric: tabular-nums; }\n"
    "th, td { text-align: right; padding: 0.2em 0.6em; border-bottom: 1px solid var(--grid); white-space: nowrap; }\n"
    "th, td { overflow-wrap: break-word; }\n"
    "th { font-weight: 600; } th:first-child, td:first-child,\n"
    ".models th:nth-child(2), .models td:nth-child(2), th.text, td.text { text-align: left; }\n"
    "@media (max-width: 37.5em) {\n"
    "  table.cards, table.cards tbody, table.cards tr { display: block; }\n"
    "  table.cards tr:first-child { display: none; }\n"
    "  table.cards tr { padding: 0.5em 0; border-bottom: 1px solid var(--grid); }\n"
    "  table.cards td, table.cards td.text { display: flex; justify-content: space-between; gap: 1.5em;\n"
    "    padding: 0.1em 0; border: 0; min-width: 0; white-space: normal; text-align: right; }\n"
    "  table.cards td:first-child { display: block; font-weight: 600; text-align: left; }\n"
    "  table.cards td:empty { display: none; }\n"
    "  table.cards td[data-label]::before { content: attr(data-label); color: var(--muted); text-align: left; }\n"
    "}\n";

}  // namespace

HtmlTable::HtmlTable(const std::vector<std::string>& headings, std::string style) : style_(std::move(style)) {
  Add(headings, "th");
  if (style_.ends_with("cards")) labels_ = headings;
}

HtmlTable::HtmlTable(const Table& table, std::string style) : style_(std::move(style)) {
  for (size_t i = 0; i < table.headings().size(); ++i) is_text_.push_back(i > 0 && !table.is_right(i));
  const bool has_headings = std::ranges::any_of(table.headings(), [](const auto& text) { return !text.empty(); });
  if (has_headings) Add(table.headings(), "th");
  if (has_headings && style_.ends_with("cards")) labels_ = table.headings();
  for (const auto& row : table.rows()) AddRow(row);
}

void HtmlTable::AddRow(const std::vector<std::string>& cells) { Add(cells, "td"); }

std::string HtmlTable::ToString() const { return Wide(fmt::format("<table class=\"{}\">\n{}</table>", style_, rows_)); }

void HtmlTable::Add(const std::vector<std::string>& cells, const char* tag) {
  rows_ += "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool is_text = i < is_text_.size() && is_text_[i];
    const bool has_label = i > 0 && i < labels_.size() && !labels_[i].empty();
    const std::string label = has_label ? fmt::format(" data-label=\"{}\"", EscapeHtml(labels_[i])) : "";
    rows_ += fmt::format("<{0}{1}{2}>{3}</{0}>", tag, is_text ? " class=\"text\"" : "", label, Breakable(cells[i]));
  }
  rows_ += "</tr>\n";
}

std::string HtmlOf(const std::vector<Table>& tables, const std::string& style) {
  std::string html;
  for (const Table& table : tables) {
    if (table.empty()) continue;
    html += HtmlTable(table, style).ToString();
    if (!table.note().empty()) html += Note(table.note());
  }
  return html;
}

std::string PageHead(const std::string& title, const std::string& more_style) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>\n{}{}{}</style>\n</head>\n<body>\n",
      EscapeHtml(title), kStyle, ChartStyle(), more_style);
}

std::string PageEnd() { return "</body>\n</html>\n"; }

std::string Breakable(const std::string& text) {
  constexpr size_t kLong = 14;
  if (text.size() <= kLong || text.find(' ') != std::string::npos) return EscapeHtml(text);
  std::string html, part;
  for (const char c : text) {
    part += c;
    if (c != '.' && c != '_' && c != '/' && c != ',') continue;
    html += EscapeHtml(part) + "<wbr>";
    part.clear();
  }
  return html + EscapeHtml(part);
}

std::string Paragraph(const std::string& text) { return fmt::format("<p>{}</p>\n", EscapeHtml(text)); }

std::string Note(const std::string& text) { return fmt::format("<p class=\"note\">{}</p>\n", EscapeHtml(text)); }

std::string Wide(const std::string& html) { return fmt::format("<div class=\"wide\">{}</div>\n", html); }

std::string Heading(const std::string& text) { return fmt::format("<h2>{}</h2>\n", EscapeHtml(text)); }

}  // namespace sluice::report
