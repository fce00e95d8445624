#include "report/verification_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::report {
namespace {

using testing::HasSubstr;
using testing::Not;

VerificationPage Page() {
  VerificationPage page;
  page.result.ref_a = "models/<a>";
  page.result.ref_b = "b";
  page.result.level = verify::Level::kTensors;
  page.result.verdict = verify::Verdict::kSameArchitectureDifferentWeights;
  page.result.config.parts[verify::Part::kMlp] = {7, 7};
  page.tensors = {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"};
  verify::TensorDiff tensor;
  tensor.name = page.tensors[1];
  tensor.tensor_class = verify::TensorClass::kChanged;
  tensor.encoding_a = tensor.encoding_b = "BF16";
  tensor.stats = verify::DifferenceStats{.elements = 8, .changed = 2, .relative_l2 = 0.03, .cosine = 0.5};
  page.result.unequal = {tensor};
  page.result.summary = verify::Summarise(page.result.unequal, 1, 8);
  return page;
}

TEST(VerificationPageTest, TellsTheVerdictFirstThenWhere) {
  const std::string html = HtmlOf(Page());
  const size_t verdict = html.find("<p class=\"verdict other\">SAME_<wbr>ARCHITECTURE_<wbr>DIFFERENT_<wbr>WEIGHTS</p>");
  ASSERT_NE(verdict, std::string::npos);
  EXPECT_LT(verdict, html.find("What was compared"));
  for (const char* part :
       {"title=\"layer 0, q: 0\"", "title=\"layer 1, q: 0.03\"", "title=\"layer 1, q: 25.0 %\"", "0.02 to 0.05",
        "models/&lt;a&gt;", "2 (25%)", "<td>mlp</td>", "prefers-color-scheme: dark", "<meta name=\"viewport\""}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(html, Not(HasSubstr("<a>")));
  for (const char* fetched : {"src=", "href=", "url("}) EXPECT_THAT(html, Not(HasSubstr(fetched)));
}

TEST(VerificationPageTest, TellsWhatTheChangesAre) {
  VerificationPage page = Page();
  verify::ChangeSummary& changes = page.result.changes.emplace();
  changes.sentence = "the changes are of rank 8 on q_proj of layer 1: a LoRA of rank 8 merged in";
  changes.unit_encoding = "BF16";
  changes.units.counts[0] = 3;
  changes.units.counts[2] = 1;
  changes.units_changed = 5;
  verify::TensorDiff& tensor = page.result.unequal[0];
  verify::EffectiveRank& rank = tensor.details.rank.emplace();
  rank.kind = verify::RankKind::kLow;
  rank.rank = 8;
  tensor.details.rows = verify::RowChanges{.rows = 100, .changed = 3, .ranges = {{4, 6}}, .num_ranges = 1};
  page.result.grids_b.looked_at = 45;
  page.result.grids_b.on[4] = 42;
  const std::string html = HtmlOf(page);
  // In this order: what must not be missed stands right below the verdict.
  size_t at = 0;
  for (const char* part :
       {"B (b) was dequantised", "The changes are of rank 8 on q_proj of layer 1: a LoRA of rank 8 merged in.",
        "What was compared", "3 of 100 rows of model.layers.1.self_attn.q_proj.weight changed: 4-6",
        "Where they differ", "In how many directions",
        "<td>q</td><td data-label=\"changed matrices\">1</td><td data-label=\"of low rank\">1</td><td "
        "data-label=\"rank\">8</td>",
        "By how much", "Changed numbers by units in the last place (BF16)", "0, once rounded", "3 to 4",
        "Of 5 numbers that changed; 0 of them changed their sign.", "The tensors that differ most",
        "Grids of quantisations", "<td data-label=\"matrices in plain floats\">45</td>",
        "<td data-label=\"on Q8_0\">42</td>", "What it took"}) {
    const size_t found = html.find(part, at);
    ASSERT_NE(found, std::string::npos) << part;
    at = found;
  }
  EXPECT_THAT(html, Not(HasSubstr("lie thousands of units")));
}

TEST(VerificationPageTest, OfModelsWithNothingInCommonHasNoEmptySections) {
  VerificationPage page = Page();
  page.tensors.clear();
  verify::TensorDiff& tensor = page.result.unequal[0];
  tensor.tensor_class = verify::TensorClass::kOnlyInA;
  tensor.encoding_b.clear();
  tensor.stats.reset();
  page.result.config.only_in_a = {tensor.name};
  page.result.summary = verify::Summarise(page.result.unequal, 0, 0);
  page.result.changes.emplace();
  page.result.verdict = verify::Verdict::kDifferentArchitecture;
  const std::string html = HtmlOf(page);
  EXPECT_THAT(html, HasSubstr("1 only in A"));
  for (const char* part :
       {"What changed", "Where they differ", "By how much", "The tensors that differ most", "In how"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
}

TEST(VerificationPageTest, OfAFirstDifferenceTellsItsPlace) {
  VerificationPage page = Page();
  page.result.summary->stopped_early = true;
  page.result.unequal[0].first_changed = 7;
  page.result.unequal[0].place_a = verify::FilePlace{"a/x.safetensors", 138};
  const std::string html = HtmlOf(page);
  EXPECT_THAT(html, HasSubstr("The first difference"));
  EXPECT_THAT(html, HasSubstr("A: a/x.safetensors, byte 138"));
  EXPECT_THAT(html, Not(HasSubstr("Where they differ")));
}

TEST(VerificationPageTest, OfEqualModelsHasNoPicturesOfDifferences) {
  VerificationPage page = Page();
  page.result.unequal.clear();
  page.result.summary = verify::Summarise({}, 2, 16);
  page.result.verdict = verify::Verdict::kIdentical;
  const std::string html = HtmlOf(page);
  EXPECT_THAT(html, HasSubstr("<p class=\"verdict same\">IDENTICAL</p>"));
  EXPECT_THAT(html, Not(HasSubstr("Where they differ")));
}

TEST(VerificationPageTest, WithoutTensorsTellsOfConfigsAlone) {
  VerificationPage page = Page();
  page.result.summary.reset();
  page.result.unequal.clear();
  page.result.level = verify::Level::kConfig;
  page.result.verdict = verify::Verdict::kUndecided;
  page.result.config.keys = {{"rope_theta", "1", "2", true}};
  const std::string html = HtmlOf(page);
  EXPECT_THAT(html, HasSubstr("<p class=\"verdict open\">UNDECIDED</p>"));
  EXPECT_THAT(html, HasSubstr("changes the forward pass"));
  EXPECT_THAT(html, HasSubstr("not computed"));
}

}  // namespace
}  // namespace sluice::report
