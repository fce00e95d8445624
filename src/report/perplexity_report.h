// Text and JSON of `perplexity`. docs/formats/json.md describes the fields; perplexity_page.h makes a page of the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "infer/perplexity_stats.h"

namespace sluice::report {

// What the command has measured. Models, pairs and positions are those of `stats`, in its order.
struct PerplexityReport {
  std::string text;              // file
  uint64_t num_tokens = 0;       // of the text
  infer::WindowOptions windows;  // with defaults filled in
  uint64_t num_windows = 0;
  std::string bos;  // what was done about BOS, in words: "none", "<s> in place of each window's first token"
  std::string compute = "f32";  // accuracy of products
  infer::PerplexityStats stats;
  std::vector<std::string> notes;  // other choices that a reader must know: a final newline that was kept, ...
  double seconds = 0;
  uint64_t bytes_read = 0, peak_bytes = 0, budget_bytes = 0;
};

// The fields of the object; the caller puts "schema" before them.
nlohmann::ordered_json PerplexityJson(const PerplexityReport& report);
std::string PerplexityText(const PerplexityReport& report);

// "13.534 ± 0.120"; without the error where it is not known.
std::string WithError(double value, double error, int digits);
// What stands for a model in a table's heading: "A" to "Z", then "m27" and so on.
std::string ModelLabel(size_t model);
// Names that fit into a legend, unlike each other: a reference's last part where that tells it apart.
std::vector<std::string> ShortRefs(const infer::PerplexityStats& stats);

}  // namespace sluice::report
