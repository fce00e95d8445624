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
  const size_t verdict = html.find("<p class=\"verdict other\">SAME_ARCHITECTURE_DIFFERENT_WEIGHTS</p>");
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
