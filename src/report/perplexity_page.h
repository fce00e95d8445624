// The page of `perplexity --report out.html`: perplexity against context position, paired differences with error bars,
// percentiles of KL, and the tables. One file: inline SVG and CSS, no scripts, nothing fetched; light and dark as the
// reader's system has it.
#pragma once

#include <string>

#include "report/perplexity_report.h"

namespace sluice::report {

// HTML 5, UTF-8. The same bytes for the same report.
std::string PerplexityPage(const PerplexityReport& report);

}  // namespace sluice::report
