#include "report/merge_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "merge/method.h"
#include "report/heat_map.h"
#include "report/tensor_kind.h"

namespace sluice::report {
namespace {

using testing::HasSubstr;
using testing::Not;

merge::TensorDistances Tensor(const std::string& name, double distance) {
  merge::TensorDistances tensor;
  tensor.name = name;
  tensor.result = {distance * distance, 1, 1, 0.75, 3, 10};
  tensor.parents.push_back({1, {0.5, 0.25}, tensor.result});
  tensor.parents.push_back({2, {0.75, 0.25}, tensor.result});
  tensor.signs = {1, 4};
  return tensor;
}

MergePage Page() {
  MergePage page;
  page.result.written.output = "out/<merged>";
  page.result.method = "ties";
  page.result.arithmetic = "exact";
  page.recipe_path = "r&d.yml";
  page.recipe_text = "models: # a < b\n";
  page.method = merge::FindMethod("ties");
  page.parents = {{true, "models/base", "", "safetensors", 10},
                  {false, "tune<script>", "", "safetensors", 10},
                  {false, "x/two", "", "safetensors", 10}};
  page.distances = {Tensor("model.layers.0.self_attn.q_proj.weight", 0.25),
                    Tensor("model.layers.1.self_attn.q_proj.weight", 0.5), Tensor("model.norm.weight", 0.125)};
  page.has_run = true;
  page.plan.num_threads = 2;
  page.plan.reader = "pread";
  for (int i = 0; i < 5; ++i) page.samples.push_back({0.1 * i, 1'000'000u * i, 500'000u * i, 64u << 20});
  return page;
}

TEST(MergePageTest, TellsOfParentsLayersAndWhatItTook) {
  const std::string html = HtmlOf(Page());
  for (const char* part :
       {"<td>model 1</td>", "<td>0.75</td>", "title=\"layer 1, q: 0.5\"", "title=\"layer 0, q: 0.25\"",
        "title=\"layer 0, q: 30.0 %\"", "title=\"layer 0, q: 0.75000\"", "title=\"layer 1, q: 25.0 %\"", "final norm",
        "Rates over time", "Memory over time", "prefers-color-scheme: dark", "Compared with the base, base.",
        "nothing was read for them", "<meta name=\"viewport\""}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  // One map each for two models and the result, twice; what was kept; where they agree.
  size_t maps = 0;
  for (size_t at = html.find("<table class=\"heat\">"); at != std::string::npos;
       at = html.find("<table class=\"heat\">", at + 1)) {
    ++maps;
  }
  EXPECT_EQ(maps, 8u);
}

TEST(MergePageTest, IsSelfContainedAndEscapesNames) {
  const std::string html = HtmlOf(Page());
  for (const char* part : {"<script", "<merged>", "src=", "href=", "@import", "url(", "https:"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
  for (const char* part : {"&lt;merged&gt;", "tune&lt;script&gt;", "r&amp;d.yml", "a &lt; b"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
}

TEST(MergePageTest, SaysWhatIsNotKnown) {
  MergePage page = Page();
  page.num_resumed = 2;
  EXPECT_THAT(HtmlOf(page), HasSubstr("2 tensors were finished in an earlier run"));
  page.parents[0].is_base = false;
  EXPECT_THAT(HtmlOf(page), HasSubstr("Compared with base, the first of the models"));
  page.distances[0].reference = 1;
  EXPECT_THAT(HtmlOf(page), HasSubstr("the base of each slice"));
  page.distances.clear();
  page.has_run = false;
  const std::string html = HtmlOf(page);
  EXPECT_THAT(html, HasSubstr("All tensors were finished in an earlier run."));
  EXPECT_THAT(html, Not(HasSubstr("class=\"heat\"")));
}

TEST(HeatScaleTest, IsLogarithmicOverDecadesAndTellsZeroApart) {
  const HeatMap linear{.title = "", .rows = {"q"}, .columns = 3, .values = {1.0, 2.0, 3.0}, .text = nullptr};
  const HeatMap decades{
      .title = "", .rows = {"q"}, .columns = 4, .values = {0.001, std::nullopt, 0.0, 1.0}, .text = nullptr};
  const HeatScale straight({&linear, 1}), logarithmic({&decades, 1});
  EXPECT_EQ(straight.Level(1), 1);
  EXPECT_EQ(straight.Level(2), 5);
  EXPECT_EQ(straight.Level(3), 9);
  EXPECT_EQ(logarithmic.Level(0), 0);
  EXPECT_EQ(logarithmic.Level(0.001), 1);
  EXPECT_EQ(logarithmic.Level(0.0317), 5);
  EXPECT_EQ(logarithmic.Level(1), 9);
  // Of shares: 49 % and 51 % are about the same, 0 % and 100 % are not, and neither is anything beyond.
  const HeatMap close{.title = "", .rows = {"q"}, .columns = 2, .values = {0.49, 0.51}, .text = nullptr};
  EXPECT_EQ(HeatScale({&close, 1}, 0.2).Level(0.49), 5);
  EXPECT_EQ(HeatScale({&close, 1}, 0.2).Level(0.51), 5);
  EXPECT_EQ(HeatScale({&close, 1}).Level(0.51), 9);
  const HeatMap full{.title = "", .rows = {"q"}, .columns = 1, .values = {1.0}, .text = nullptr};
  EXPECT_EQ(HeatScale({&full, 1}, 0.2).Level(1), 9);
  EXPECT_FALSE(HeatScale({&decades, 1}, 0.2).Level(0.0317) == 5);
  const HeatMap one{.title = "", .rows = {"q"}, .columns = 1, .values = {0.5}, .text = nullptr};
  EXPECT_EQ(HeatScale({&one, 1}).Level(0.5), 5);
  const HeatMap nothing{.title = "", .rows = {"q"}, .columns = 1, .values = {0.0}, .text = nullptr};
  EXPECT_TRUE(HeatScale({&nothing, 1}).empty());
}

TEST(TensorKindTest, KnowsTheNamesOfManyModels) {
  const std::vector<std::pair<const char*, const char*>> kinds = {
      {"model.layers.3.self_attn.q_proj.weight", "q"},
      {"model.layers.3.self_attn.k_proj.bias", "k"},
      {"model.layers.3.self_attn.q_norm.weight", "norms"},
      {"model.layers.3.mlp.gate_proj.weight", "gate"},
      {"model.layers.3.mlp.gate_up_proj.weight", "gate+up"},
      {"model.layers.3.block_sparse_moe.gate.weight", "router"},
      {"model.layers.3.block_sparse_moe.experts.7.w2.weight", "down"},
      {"model.layers.3.input_layernorm.weight", "norms"},
      {"model.norm.weight", "final norm"},
      {"model.embed_tokens.weight", "embedding"},
      {"lm_head.weight", "head"},
      {"transformer.h.0.attn.c_proj.weight", "o"},
      {"transformer.h.0.mlp.c_proj.weight", "down"},
      {"gpt_neox.layers.0.attention.dense.weight", "o"},
      {"transformer.h.0.ln_1.weight", "norms"},
      {"something.else", "other"},
  };
  for (const auto& [name, kind] : kinds) EXPECT_EQ(KindOf(name), kind) << name;
  EXPECT_LT(KindOrder("q"), KindOrder("norms"));
  EXPECT_LT(KindOrder("norms"), KindOrder("embedding"));
}

}  // namespace
}  // namespace sluice::report
