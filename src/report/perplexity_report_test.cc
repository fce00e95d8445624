#include "report/perplexity_report.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/perplexity_page.h"
#include "report/svg_chart.h"

namespace sluice::report {
namespace {

using infer::PerplexityConvention;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Three models on 1,024 tokens; the second differs a little, the third a lot.
PerplexityReport Example(size_t num_models = 3) {
  PerplexityReport report;
  report.text = "a & b.txt";
  report.num_tokens = 1100;
  report.windows = infer::WithDefaults({.convention = PerplexityConvention::kLlama512});
  report.bos = "none";
  report.notes = {"the final newline was kept"};
  report.seconds = 2;
  report.bytes_read = 1000;
  report.peak_bytes = 1 << 20;
  report.budget_bytes = 1 << 21;
  const auto windows = *infer::PlanWindows(report.num_tokens, report.windows);
  report.num_windows = windows.size();
  std::vector<infer::ModelScores> models(num_models);
  std::vector<infer::PairScores> pairs(num_models - 1);
  for (size_t m = 0; m < num_models; ++m) {
    models[m].ref = "models/m" + std::to_string(m) + "/";
    for (uint64_t i = 0; i < infer::NumScored(windows); ++i) {
      const double change = 0.01 * static_cast<double>(m) * (1 + std::sin(static_cast<double>(i)));
      models[m].nll.push_back(2.5 + std::cos(0.37 * static_cast<double>(i)) + change);
      models[m].top.push_back(static_cast<uint32_t>(m == 2 && i % 10 == 0 ? 1 : 0));
      if (m > 0) pairs[m - 1].kl.push_back(change * change + 1e-6);
    }
    if (m > 0) pairs[m - 1].a = 0, pairs[m - 1].b = m;
  }
  report.stats = infer::StatsOf(windows, models, pairs);
  return report;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(PerplexityReport, JsonHasWhatTheCommandLinePromises) {
  const PerplexityReport report = Example();
  const auto json = PerplexityJson(report);
  EXPECT_EQ(json.at("convention"), "llama512");
  EXPECT_EQ(json.at("bos"), "none");
  EXPECT_EQ(json.at("tokens"), 1100);
  EXPECT_EQ(json.at("windows"), 2);
  EXPECT_EQ(json.at("scored"), 510);
  EXPECT_FALSE(json.contains("stride"));
  ASSERT_EQ(json.at("models").size(), 3u);
  EXPECT_EQ(json["models"][1].at("ref"), "models/m1/");
  EXPECT_EQ(json["models"][1].at("ppl"), report.stats.models[1].ppl);
  EXPECT_EQ(json["models"][1].at("ppl_error"), report.stats.models[1].ppl_error);
  EXPECT_EQ(json["models"][1].at("mean_nll"), report.stats.models[1].nll.mean);
  ASSERT_EQ(json.at("pairs").size(), 2u);
  const auto& pair = json["pairs"][1];
  EXPECT_EQ(pair.at("a"), "models/m0/");
  EXPECT_EQ(pair.at("b"), "models/m2/");
  EXPECT_EQ(pair.at("delta_ln_ppl"), report.stats.pairs[1].delta_ln_ppl.mean);
  EXPECT_EQ(pair.at("error"), report.stats.pairs[1].delta_ln_ppl.error);
  EXPECT_EQ(pair.at("kl").at("p99.9"), report.stats.pairs[1].kl_spread.percentiles[0]);
  EXPECT_EQ(pair.at("kl").at("p50"), report.stats.pairs[1].kl_spread.percentiles[4]);
  EXPECT_EQ(pair.at("delta_p").at("rms"), report.stats.pairs[1].delta_p_rms);
  EXPECT_EQ(pair.at("same_top").at("rate"), 0.9);
  ASSERT_EQ(json.at("by_position").size(), 8u);
  EXPECT_EQ(json["by_position"][0].at("begin"), 256);
  EXPECT_EQ(json["by_position"][0].at("models").size(), 3u);
  EXPECT_EQ(json["by_position"][0].at("pairs").size(), 2u);
}

TEST(PerplexityReport, WhatIsNotKnownIsNull) {
  PerplexityReport report = Example(1);
  report.stats.models[0].nll.error = report.stats.models[0].ppl_error = std::nan("");
  EXPECT_TRUE(PerplexityJson(report).at("models")[0].at("ppl_error").is_null());
  EXPECT_THAT(PerplexityText(report), Not(HasSubstr("nan")));
  EXPECT_THAT(PerplexityPage(report), Not(HasSubstr("nan")));
}

TEST(PerplexityReport, TextSaysHowItWasMeasured) {
  const std::string text = PerplexityText(Example());
  EXPECT_TRUE(
      text.starts_with("a & b.txt: 1,100 tokens, 510 scored in 2 windows of 512\n"
                       "convention llama512; BOS: none; products in f32 accuracy\n"
                       "the final newline was kept\n"))
      << text;
  EXPECT_THAT(text, HasSubstr("\n  C  models/m2/"));
  EXPECT_THAT(text, HasSubstr("\n  C - A  "));
  EXPECT_THAT(text, HasSubstr("90.00 ± 1.33%"));
  EXPECT_THAT(text, HasSubstr("288-319"));
  const std::string alone = PerplexityText(Example(1));
  EXPECT_THAT(alone, Not(HasSubstr("Paired")));

  PerplexityReport strided = Example(1);
  strided.windows = infer::WithDefaults({.convention = PerplexityConvention::kHfStride});
  EXPECT_THAT(PerplexityText(strided), HasSubstr("convention hf-stride, stride 512;"));
  EXPECT_EQ(PerplexityJson(strided).at("stride"), 512);
}

TEST(PerplexityReport, ShortNamesAreUnlikeEachOther) {
  infer::PerplexityStats stats;
  for (const char* ref : {"x/base/", "x/tune", "y/tune", "x/tune", "m.gguf", "/"}) {
    stats.models.push_back({ref, {}, 0, 0});
  }
  EXPECT_THAT(ShortRefs(stats), ElementsAre("base", "x/tune", "y/tune", "x/tune (2)", "m.gguf", "/"));
}

TEST(PerplexityPage, IsOnePageOfFourCharts) {
  const std::string page = PerplexityPage(Example());
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_EQ(Count(page, "<svg "), 4u);
  EXPECT_EQ(Count(page, "</svg>"), 4u);
  EXPECT_THAT(page, HasSubstr("a &amp; b.txt"));
  EXPECT_THAT(page, Not(HasSubstr("a & b.txt")));
  // Nothing is fetched or run.
  for (const char* outside : {"<script", "src=", "href=", "url(", "@import"})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_EQ(page, PerplexityPage(Example()));
  EXPECT_EQ(Count(PerplexityPage(Example(1)), "<svg "), 1u);
}

TEST(PerplexityPage, TagsAreBalanced) {
  const std::string page = PerplexityPage(Example());
  for (const char* tag : {"html", "body", "table", "tr", "td", "th", "p", "svg", "g", "text", "style", "div", "h2"}) {
    const std::string name = tag;
    EXPECT_EQ(Count(page, "<" + name + ">") + Count(page, "<" + name + " "), Count(page, "</" + name + ">")) << tag;
  }
}

// A model beside itself: no KL above 0 to draw on a logarithmic axis, differences all 0.
TEST(PerplexityPage, OfEqualModels) {
  PerplexityReport report = Example(2);
  const auto windows = *infer::PlanWindows(report.num_tokens, report.windows);
  const infer::ModelScores model = {"m", std::vector<double>(510, 2.0), std::vector<uint32_t>(510)};
  report.stats = infer::StatsOf(windows, std::vector<infer::ModelScores>{model, model},
                                std::vector<infer::PairScores>{{0, 1, std::vector<double>(510)}});
  const std::string page = PerplexityPage(report);
  EXPECT_EQ(Count(page, "<svg "), 3u);
  EXPECT_THAT(page, HasSubstr("the distributions are the same"));
  EXPECT_THAT(page, HasSubstr("m (2)"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf")));
}

TEST(SvgChart, PointsLieWhereTheAxesSay) {
  // Ticks from 0 to 10 and 0 to 4: (5, 2) is the middle of the plot, x from 76 to 736, y from 44 to 324.
  const std::string svg =
      SvgOf(LineChart{.title = "t", .x_title = "x", .y_title = "y", .series = {{"s", {{0, 0}, {5, 2}, {10, 4}}}}});
  EXPECT_THAT(svg, HasSubstr("M76.0 324.0 L406.0 184.0 L736.0 44.0"));
  EXPECT_EQ(SvgOf(LineChart{.title = "t", .x_title = "x", .y_title = "y", .series = {}}), "");
  const std::string log = SvgOf(LineChart{.title = "t",
                                          .x_title = "x",
                                          .y_title = "y",
                                          .series = {{"s", {{0, 0.01}, {1, 0}, {2, 1}}}},
                                          .categories = {"a", "b", "c"},
                                          .log_y = true});
  EXPECT_THAT(log, HasSubstr("M186.0 324.0 L626.0 44.0"));  // 0 is left out
  EXPECT_THAT(log, HasSubstr(">1e-2<"));
}

TEST(SvgChart, NamesAreEscapedAndShortened) {
  const std::string svg = SvgOf(DotChart{
      .title = "<t>", .x_title = "x", .rows = {{"a<b", 1, 0.5}, {std::string(40, 'x') + std::string(40, 'y'), -1, 0}}});
  EXPECT_THAT(svg, HasSubstr("&lt;t&gt;"));
  EXPECT_THAT(svg, HasSubstr("a&lt;b"));
  EXPECT_THAT(svg, HasSubstr("xxx…yyy"));
  EXPECT_THAT(svg, Not(HasSubstr("a<b")));
  EXPECT_EQ(Count(svg, "class=\"bar\""), 3u);  // of the one row with an error
}

}  // namespace
}  // namespace sluice::report
