#include "report/perplexity_report.h"

#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/units.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using infer::Estimate;
using infer::PairedPerplexity;
using infer::PerplexityConvention;
using infer::PositionBucket;
using infer::Spread;
using nlohmann::ordered_json;

// The error of a single token is not known.
ordered_json Number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

void AddSpread(const Spread& spread, ordered_json* json) {
  (*json)["max"] = spread.max;
  for (size_t i = 0; i < infer::kPercentiles.size(); ++i) {
    (*json)[fmt::format("p{}", infer::kPercentiles[i])] = spread.percentiles[i];
  }
  (*json)["min"] = spread.min;
}

ordered_json PairJson(const PairedPerplexity& pair, const infer::PerplexityStats& stats) {
  ordered_json json;
  json["a"] = stats.models[pair.a].ref;
  json["b"] = stats.models[pair.b].ref;
  json["delta_ln_ppl"] = pair.delta_ln_ppl.mean;
  json["error"] = Number(pair.delta_ln_ppl.error);
  json["ppl_ratio"] = std::exp(pair.delta_ln_ppl.mean);
  json["kl"] = {{"mean", pair.kl.mean}, {"error", Number(pair.kl.error)}};
  AddSpread(pair.kl_spread, &json["kl"]);
  json["delta_p"] = {{"mean", pair.delta_p.mean}, {"error", Number(pair.delta_p.error)}, {"rms", pair.delta_p_rms}};
  AddSpread(pair.delta_p_spread, &json["delta_p"]);
  json["same_top"] = {{"rate", pair.same_top.mean}, {"error", Number(pair.same_top.error)}};
  return json;
}

ordered_json BucketJson(const PositionBucket& bucket) {
  ordered_json json = {{"begin", bucket.begin}, {"end", bucket.end}, {"tokens", bucket.num_tokens}};
  json["models"] = ordered_json::array();
  for (const Estimate& nll : bucket.nll) {
    const double ppl = std::exp(nll.mean);
    json["models"].push_back(
        {{"ppl", Number(ppl)}, {"ppl_error", Number(ppl * nll.error)}, {"mean_nll", Number(nll.mean)}});
  }
  json["pairs"] = ordered_json::array();
  for (const PositionBucket::Pair& pair : bucket.pairs) {
    json["pairs"].push_back({{"delta_ln_ppl", pair.delta_ln_ppl.mean},
                             {"error", Number(pair.delta_ln_ppl.error)},
                             {"mean_kl", pair.mean_kl},
                             {"same_top", pair.same_top}});
  }
  return json;
}

std::string Signed(double value, double error, int digits) {
  return (value >= 0 ? "+" : "") + WithError(value, error, digits);
}

std::string PairLabel(const PairedPerplexity& pair) {
  return fmt::format("{} - {}", ModelLabel(pair.b), ModelLabel(pair.a));
}

std::string PairsText(const infer::PerplexityStats& stats) {
  if (stats.pairs.empty()) return "";
  std::string text = "\nPaired, on the same tokens; above 0, the first of the two is worse:\n";
  Table pairs({"", ">delta ln PPL", ">PPL ratio", ">mean KL (nats)", ">same top token", ">mean dp", ">RMS dp"});
  Table spreads({"", "", ">max", ">99.9%", ">99%", ">95%", ">90%", ">median", ">10%", ">5%", ">1%"});
  for (const PairedPerplexity& pair : stats.pairs) {
    const std::string label = PairLabel(pair);
    pairs.AddRow({label, Signed(pair.delta_ln_ppl.mean, pair.delta_ln_ppl.error, 5),
                  fmt::format("{:.5f}", std::exp(pair.delta_ln_ppl.mean)), WithError(pair.kl.mean, pair.kl.error, 6),
                  WithError(100 * pair.same_top.mean, 100 * pair.same_top.error, 2) + "%",
                  Signed(100 * pair.delta_p.mean, 100 * pair.delta_p.error, 3) + "%",
                  fmt::format("{:.3f}%", 100 * pair.delta_p_rms)});
    const auto add = [&](const char* what, const Spread& spread, double scale, const char* unit) {
      std::vector<std::string> cells = {label, what, fmt::format("{:.3g}{}", scale * spread.max, unit)};
      for (const double value : spread.percentiles) cells.push_back(fmt::format("{:.3g}{}", scale * value, unit));
      spreads.AddRow(std::move(cells));
    };
    add("KL", pair.kl_spread, 1, "");
    add("dp", pair.delta_p_spread, 100, "%");
  }
  text += pairs.ToString("  ") + "\n" + spreads.ToString("  ");
  return text + "  dp: change in the probability of the text's own token. Percentiles are over tokens.\n";
}

std::string PositionsText(const infer::PerplexityStats& stats) {
  std::string text = "\nBy tokens of context before the one that is scored:\n";
  std::vector<std::string> headings = {">context", ">tokens"};
  for (size_t i = 0; i < stats.models.size(); ++i) headings.push_back(">PPL " + ModelLabel(i));
  for (const PairedPerplexity& pair : stats.pairs) headings.push_back(">delta ln " + PairLabel(pair));
  Table table(headings);
  for (const PositionBucket& bucket : stats.by_position) {
    std::vector<std::string> row = {fmt::format("{}-{}", bucket.begin, bucket.end - 1), FormatCount(bucket.num_tokens)};
    for (const Estimate& nll : bucket.nll) {
      row.push_back(WithError(std::exp(nll.mean), std::exp(nll.mean) * nll.error, 3));
    }
    for (const PositionBucket::Pair& pair : bucket.pairs) {
      row.push_back(Signed(pair.delta_ln_ppl.mean, pair.delta_ln_ppl.error, 4));
    }
    table.AddRow(std::move(row));
  }
  return text + table.ToString("  ");
}

std::string HeadText(const PerplexityReport& report) {
  std::string text =
      fmt::format("{}: {} tokens, {} scored in {} window{} of {}\n", report.text, FormatCount(report.num_tokens),
                  FormatCount(report.stats.num_scored), FormatCount(report.num_windows),
                  report.num_windows == 1 ? "" : "s", FormatCount(report.windows.context));
  text += fmt::format("convention {}", infer::ConventionName(report.windows.convention));
  if (report.windows.convention == PerplexityConvention::kHfStride) {
    text += fmt::format(", stride {}", report.windows.stride);
  }
  text += fmt::format("; BOS: {}; products in {} accuracy\n", report.bos, report.compute);
  for (const std::string& note : report.notes) text += note + "\n";
  return text;
}

}  // namespace

std::string WithError(double value, double error, int digits) {
  if (!std::isfinite(error)) return fmt::format("{:.{}f}", value, digits);
  return fmt::format("{:.{}f} ± {:.{}f}", value, digits, error, digits);
}

std::string ModelLabel(size_t model) {
  return model < 26 ? std::string(1, static_cast<char>('A' + model)) : fmt::format("m{}", model + 1);
}

std::vector<std::string> ShortRefs(const infer::PerplexityStats& stats) {
  const auto last_part = [](std::string ref) {
    while (ref.size() > 1 && ref.back() == '/') ref.pop_back();
    const size_t slash = ref.rfind('/');
    return slash == std::string::npos || slash + 1 == ref.size() ? ref : ref.substr(slash + 1);
  };
  std::map<std::string, std::set<std::string>> refs_of;
  for (const auto& model : stats.models) refs_of[last_part(model.ref)].insert(model.ref);
  std::vector<std::string> names;
  std::map<std::string, int> times;
  for (const auto& model : stats.models) {
    std::string name = last_part(model.ref);
    if (refs_of[name].size() > 1) name = model.ref;  // of several folders
    if (const int again = ++times[name]; again > 1) name += fmt::format(" ({})", again);
    names.push_back(std::move(name));
  }
  return names;
}

ordered_json PerplexityJson(const PerplexityReport& report) {
  ordered_json json;
  json["text"] = report.text;
  json["convention"] = infer::ConventionName(report.windows.convention);
  json["context"] = report.windows.context;
  if (report.windows.convention == PerplexityConvention::kHfStride) json["stride"] = report.windows.stride;
  json["bos"] = report.bos;
  json["compute"] = report.compute;
  json["tokens"] = report.num_tokens;
  json["windows"] = report.num_windows;
  json["scored"] = report.stats.num_scored;
  json["notes"] = report.notes;
  json["models"] = ordered_json::array();
  for (const auto& model : report.stats.models) {
    json["models"].push_back({{"ref", model.ref},
                              {"ppl", Number(model.ppl)},
                              {"ppl_error", Number(model.ppl_error)},
                              {"mean_nll", model.nll.mean},
                              {"mean_nll_error", Number(model.nll.error)}});
  }
  json["pairs"] = ordered_json::array();
  for (const PairedPerplexity& pair : report.stats.pairs) json["pairs"].push_back(PairJson(pair, report.stats));
  json["by_position"] = ordered_json::array();
  for (const PositionBucket& bucket : report.stats.by_position) json["by_position"].push_back(BucketJson(bucket));
  json["memory"] = {{"budget", report.budget_bytes}, {"peak", report.peak_bytes}};
  json["seconds"] = report.seconds;
  json["bytes_read"] = report.bytes_read;
  return json;
}

std::string PerplexityText(const PerplexityReport& report) {
  Table models({"", "model", ">PPL", ">ln PPL"});
  for (size_t i = 0; i < report.stats.models.size(); ++i) {
    const auto& model = report.stats.models[i];
    models.AddRow({ModelLabel(i), model.ref, WithError(model.ppl, model.ppl_error, 4),
                   WithError(model.nll.mean, model.nll.error, 5)});
  }
  std::string text = HeadText(report) + "\n" + models.ToString("  ");
  text += PairsText(report.stats) + PositionsText(report.stats);
  text +=
      fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n", FormatSeconds(report.seconds),
                  FormatBytes(report.bytes_read), FormatMemory(report.peak_bytes), FormatMemory(report.budget_bytes));
  return text;
}

}  // namespace sluice::report
