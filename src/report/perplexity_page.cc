#include "report/perplexity_page.h"

#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "report/html_page.h"
#include "report/svg_chart.h"

namespace sluice::report {
namespace {

using infer::PairedPerplexity;
using infer::PerplexityStats;
using infer::PositionBucket;
using infer::Spread;

std::string PairLabel(const PairedPerplexity& pair) {
  return fmt::format("{} − {}", ModelLabel(pair.b), ModelLabel(pair.a));
}

std::string PairName(const PairedPerplexity& pair, const std::vector<std::string>& names) {
  return fmt::format("{}: {}", PairLabel(pair), names[pair.b]);
}

double Middle(const PositionBucket& bucket) {
  return (static_cast<double>(bucket.begin) + static_cast<double>(bucket.end - 1)) / 2;
}

std::string PerplexityChart(const PerplexityStats& stats, const std::vector<std::string>& names) {
  LineChart chart{.title = "Perplexity by context position",
                  .x_title = "Context before the scored token (tokens, middle of the bucket)",
                  .y_title = "Perplexity",
                  .series = {}};
  for (size_t i = 0; i < names.size(); ++i) {
    ChartSeries series{ModelLabel(i) + ": " + names[i], {}, i, i == 0 && names.size() > 1};
    for (const PositionBucket& bucket : stats.by_position) {
      const double ppl = std::exp(bucket.nll[i].mean);
      if (std::isfinite(ppl)) series.points.push_back({Middle(bucket), ppl, 0});
    }
    chart.series.push_back(std::move(series));
  }
  return SvgOf(chart);
}

std::string DifferenceCharts(const PerplexityStats& stats, const std::vector<std::string>& names) {
  DotChart all{.title = "Paired difference on the whole text (bars: one standard error)",
               .x_title = "Δ ln perplexity (nats per token; right of 0 is worse)",
               .rows = {}};
  LineChart by_position{.title = "Paired difference by context position (bars: one standard error)",
                        .x_title = "Context before the scored token (tokens, middle of the bucket)",
                        .y_title = "Δ ln perplexity (nats per token)",
                        .series = {},
                        .zero_line = true};
  for (size_t i = 0; i < stats.pairs.size(); ++i) {
    const PairedPerplexity& pair = stats.pairs[i];
    const std::string name = PairName(pair, names);
    all.rows.push_back({name, pair.delta_ln_ppl.mean, pair.delta_ln_ppl.error, pair.b});
    ChartSeries series{name, {}, pair.b};
    for (const PositionBucket& bucket : stats.by_position) {
      const auto& delta = bucket.pairs[i].delta_ln_ppl;
      series.points.push_back({Middle(bucket), delta.mean, delta.error});
    }
    by_position.series.push_back(std::move(series));
  }
  return SvgOf(all) + SvgOf(by_position);
}

std::string KlChart(const PerplexityStats& stats, const std::vector<std::string>& names) {
  LineChart chart{.title = "KL divergence from the base: percentiles over tokens",
                  .x_title = "Percentile of tokens",
                  .y_title = "KL (nats, logarithmic)",
                  .series = {},
                  .log_y = true};
  for (size_t i = infer::kPercentiles.size(); i-- > 0;) {
    chart.categories.push_back(fmt::format("{}%", infer::kPercentiles[i]));
  }
  chart.categories.push_back("max");
  for (const PairedPerplexity& pair : stats.pairs) {
    ChartSeries series{PairName(pair, names), {}, pair.b};
    const size_t count = infer::kPercentiles.size();
    for (size_t i = 0; i < count; ++i) {
      series.points.push_back({static_cast<double>(i), pair.kl_spread.percentiles[count - 1 - i], 0});
    }
    series.points.push_back({static_cast<double>(count), pair.kl_spread.max, 0});
    chart.series.push_back(std::move(series));
  }
  return SvgOf(chart);
}

std::string ModelsTable(const PerplexityStats& stats) {
  HtmlTable table({"", "Model", "Perplexity", "ln perplexity (nats per token)"}, "models");
  for (size_t i = 0; i < stats.models.size(); ++i) {
    const auto& model = stats.models[i];
    table.AddRow({ModelLabel(i), model.ref, WithError(model.ppl, model.ppl_error, 4),
                  WithError(model.nll.mean, model.nll.error, 5)});
  }
  return table.ToString();
}

std::string PairsTables(const PerplexityStats& stats) {
  HtmlTable pairs({"Pair", "Δ ln perplexity", "Ratio", "Mean KL (nats)", "Same top token", "Mean Δp", "RMS Δp"});
  HtmlTable spreads({"Pair", "", "max", "99.9%", "99%", "95%", "90%", "median", "10%", "5%", "1%", "min"});
  for (const PairedPerplexity& pair : stats.pairs) {
    const std::string name = PairLabel(pair);
    pairs.AddRow({name, WithError(pair.delta_ln_ppl.mean, pair.delta_ln_ppl.error, 5),
                  fmt::format("{:.5f}", std::exp(pair.delta_ln_ppl.mean)), WithError(pair.kl.mean, pair.kl.error, 6),
                  WithError(100 * pair.same_top.mean, 100 * pair.same_top.error, 2) + " %",
                  WithError(100 * pair.delta_p.mean, 100 * pair.delta_p.error, 3) + " %",
                  fmt::format("{:.3f} %", 100 * pair.delta_p_rms)});
    const auto add = [&](const char* what, const Spread& spread, double scale) {
      std::vector<std::string> cells = {name, what, fmt::format("{:.3g}", scale * spread.max)};
      for (const double value : spread.percentiles) cells.push_back(fmt::format("{:.3g}", scale * value));
      cells.push_back(fmt::format("{:.3g}", scale * spread.min));
      spreads.AddRow(cells);
    };
    add("KL (nats)", pair.kl_spread, 1);
    add("Δp (%)", pair.delta_p_spread, 100);
  }
  return pairs.ToString() +
         Note(
             "Percentiles over tokens; Δp is the change in the probability of the text's own "
             "token:") +
         spreads.ToString();
}

std::string PositionsTable(const PerplexityStats& stats) {
  std::vector<std::string> headings = {"Context (tokens)", "Scored"};
  for (size_t i = 0; i < stats.models.size(); ++i) headings.push_back("PPL " + ModelLabel(i));
  for (const PairedPerplexity& pair : stats.pairs) headings.push_back("Δ ln " + PairLabel(pair));
  HtmlTable table(headings);
  for (const PositionBucket& bucket : stats.by_position) {
    std::vector<std::string> cells = {fmt::format("{}–{}", bucket.begin, bucket.end - 1),
                                      FormatCount(bucket.num_tokens)};
    for (const auto& nll : bucket.nll) {
      cells.push_back(WithError(std::exp(nll.mean), std::exp(nll.mean) * nll.error, 3));
    }
    for (const auto& pair : bucket.pairs) {
      cells.push_back(WithError(pair.delta_ln_ppl.mean, pair.delta_ln_ppl.error, 4));
    }
    table.AddRow(cells);
  }
  return table.ToString();
}

std::string Setting(const PerplexityReport& report) {
  const bool strided = report.windows.convention == infer::PerplexityConvention::kHfStride;
  return fmt::format(
      "{}: {} tokens, {} of them scored in {} window{} of {}{}. Convention {}; BOS: {}; products in {} accuracy.",
      report.text, FormatCount(report.num_tokens), FormatCount(report.stats.num_scored),
      FormatCount(report.num_windows), report.num_windows == 1 ? "" : "s", FormatCount(report.windows.context),
      strided ? fmt::format(", one each {} tokens", FormatCount(report.windows.stride)) : "",
      infer::ConventionName(report.windows.convention), report.bos, report.compute);
}

}  // namespace

std::string PerplexityPage(const PerplexityReport& report) {
  const PerplexityStats& stats = report.stats;
  const std::vector<std::string> names = ShortRefs(stats);
  std::string html = PageHead("Perplexity on " + report.text);
  html += "<h1>Perplexity</h1>\n" + Paragraph(Setting(report));
  for (const std::string& note : report.notes) html += Note(note);
  html += ModelsTable(stats);
  html += Note(
      "± is one standard error over tokens, taken as independent. Between models on the same tokens the paired "
      "differences tell much more than the two figures.");
  html += PerplexityChart(stats, names);
  if (!stats.pairs.empty()) {
    html += "<h2>Paired, on the same tokens</h2>\n";
    html += Paragraph(
        "Differences are of the first model less the second, its base, token by token: above 0, the first is worse. KL "
        "is that of the first one's distribution from the base's.");
    html += PairsTables(stats) + DifferenceCharts(stats, names);
    const std::string kl = KlChart(stats, names);
    html += kl.empty() ? Paragraph("No token has a KL above 0: the distributions are the same.") : kl;
  }
  html += "<h2>By context position</h2>\n" + PositionsTable(stats);
  html += Note(fmt::format("sluice perplexity: took {}, read {} of weights, {} of memory at most (budget {}).",
                           FormatSeconds(report.seconds), FormatBytes(report.bytes_read),
                           FormatMemory(report.peak_bytes), FormatMemory(report.budget_bytes)));
  return html + PageEnd();
}

}  // namespace sluice::report
