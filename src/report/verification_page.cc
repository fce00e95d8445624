#include "report/verification_page.h"

#include <utility>

#include <fmt/format.h>

#include "base/units.h"
#include "kernels/sha256.h"
#include "report/change_page.h"
#include "report/config_report.h"
#include "report/fingerprint_report.h"
#include "report/html_page.h"
#include "report/verification_report.h"

namespace sluice::report {
namespace {

constexpr const char* kStyle =
    "body { overflow-wrap: anywhere; }\n"
    "p.verdict { font-size: 1.3em; font-weight: 600; padding: 0.6em 0.8em; border-left: 0.35em solid var(--verdict); "
    "}\n"
    "p.same { --verdict: #2e8b57; } p.other { --verdict: #c0392b; } p.open { --verdict: #b8860b; }\n"
    "table.words td, table.words th { white-space: normal; }\n"
    "table.words td { min-width: 4.5em; } table.words td:last-child { min-width: 6em; }\n"
    "@media (max-width: 37.5em) { table.words.cards td, table.words.cards td:last-child { min-width: 0; } }\n"
    "@media (max-width: 44em) { div.wide svg { width: 38em; max-width: none; } }\n";

const char* StyleOf(const verify::Verification& result) {
  switch (verify::VerdictExitStatus(result.verdict)) {
    case 0:
      return "same";
    case 5:
      return "open";
    default:
      return "other";
  }
}

}  // namespace

std::string HtmlOf(const VerificationPage& page) { return HtmlOf(page.result, page.tensors); }

std::string HtmlOf(const verify::Verification& result, const std::vector<std::string>& tensors) {
  std::string html =
      PageHead(fmt::format("{}: {} and {}", verify::VerdictName(result.verdict), result.ref_a, result.ref_b),
               kStyle + ChangeStyle());
  html += "<h1>Are these two models the same?</h1>\n";
  html +=
      fmt::format("<p class=\"verdict {}\">{}</p>\n", StyleOf(result), Breakable(verify::VerdictName(result.verdict)));
  html += Paragraph("Proves: " + verify::Proves(result.verdict, result.level) + ".");
  html += Paragraph("Does not prove: " + verify::DoesNotProve(result.verdict, result.level) + ".");
  html += HtmlOfFindings(result);

  HtmlTable sides({"", "Model", "Parameters", "Bytes", "Root"}, "models cards");
  const bool has_roots = result.summary && !result.summary->stopped_early;
  const auto root = [&](const kernels::Hash256& hash) {
    return has_roots ? kernels::ToHex(hash).substr(0, 16) + "…" : "not computed";
  };
  const verify::TensorSummary none;
  const verify::TensorSummary& summary = result.summary ? *result.summary : none;
  sides.AddRow({"A", result.ref_a, FormatCount(result.config.parameters_a), FormatBytes(result.config.bytes_a),
                root(summary.model_root_a)});
  sides.AddRow({"B", result.ref_b, FormatCount(result.config.parameters_b), FormatBytes(result.config.bytes_b),
                root(summary.model_root_b)});
  html += sides.ToString();
  for (const auto& [side, note] : {std::pair("A", &result.note_a), {"B", &result.note_b}}) {
    if (!note->empty()) html += Note(fmt::format("{} was computed with {}.", side, *note));
  }

  html += Heading("What was compared") + HtmlOf({LevelsTable(result)}, "words cards");
  if (result.sample) {
    html += Heading("What was drawn") + Paragraph(result.sample->Bound() + ".") +
            HtmlOf(SampleTables(*result.sample), "cards");
  }
  html += HtmlOfChanges(result, tensors);
  const std::string config = HtmlOf(ConfigTables(result.config, /*with_parts=*/true), "words");
  if (!config.empty()) html += Heading("Config, tokenizer and files") + config;

  html += Heading("What it took");
  html += Paragraph(fmt::format("{}, {} of weights read, {} of memory at most (budget {}).",
                                FormatSeconds(result.seconds), FormatBytes(result.bytes_read),
                                FormatMemory(result.peak_bytes), FormatMemory(result.budget_bytes)));
  return html + PageEnd();
}

}  // namespace sluice::report
