#include "report/behaviour_page.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/behaviour_report.h"

namespace sluice::report {
namespace {

using testing::HasSubstr;
using testing::Not;
using namespace verify::behaviour;

verify::Verification Result(double most, size_t count) {
  verify::Verification result;
  result.ref_a = "models/<a>";
  result.ref_b = "b";
  result.level = verify::Level::kBehaviour;
  BehaviourResult& behaviour = result.behaviour.emplace();
  behaviour.challenges = count;
  behaviour.challenge_tokens = 4;
  behaviour.alignment = "same_tokens";
  behaviour.shared_tokens = behaviour.drawable_tokens = 100;
  behaviour.power = PowerOf(behaviour.settings, count);
  behaviour.commitment = Commit(*verify::ParseNonce("00112233445566778899aabbccddeeff"), {{"x", 1}});
  std::mt19937_64 words(2);
  for (size_t i = 0; i < count; ++i) {
    behaviour.scores.push_back(most * static_cast<double>(words() >> 11) * 0x1p-53);
  }
  behaviour.evaluation = Evaluate(behaviour.settings, behaviour.scores);
  for (const uint64_t place : MostDiffering(behaviour.scores)) {
    behaviour.most_differing.push_back({place, behaviour.scores[place], std::nullopt, {7, 8}, "two <b>words"});
  }
  const auto outcome = behaviour.evaluation.outcome;
  result.verdict = outcome == verify::sequential_test::Outcome::kSame        ? verify::Verdict::kSameBehaviour
                   : outcome == verify::sequential_test::Outcome::kDifferent ? verify::Verdict::kDifferentBehaviour
                                                                             : verify::Verdict::kUndecided;
  return result;
}

TEST(BehaviourPageTest, TellsTheVerdictThenHowItCameAbout) {
  const std::string html = BehaviourPage(Result(0.01, 300));
  size_t at = 0;
  // In this order.
  for (const char* part :
       {"<p class=\"verdict same\">SAME_BEHAVIOUR</p>", "Proves: the total variation", "is below 0.025",
        "Does not prove: ", "models/&lt;a&gt;", "What was asked, and what came out", "300 of 4 tokens",
        "What the mean score can be, after so many challenges", "upper limit", "gamma",
        "What betting on each answer has made", "The challenges on which the two differ most", "two &lt;b&gt;words",
        "What headers tell", "What it took"}) {
    const size_t found = html.find(part, at);
    ASSERT_NE(found, std::string::npos) << part;
    at = found;
  }
  for (const char* fetched : {"src=", "href=", "url(", "<a>", "<b>"}) EXPECT_THAT(html, Not(HasSubstr(fetched)));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(html, HasSubstr("<meta name=\"viewport\""));
  EXPECT_EQ(html, BehaviourPage(Result(0.01, 300))) << "the same input, the same bytes";
}

TEST(BehaviourPageTest, OtherOutcomesHaveTheirWordsAndColours) {
  EXPECT_THAT(BehaviourPage(Result(0.4, 50)), HasSubstr("<p class=\"verdict other\">DIFFERENT_<wbr>BEHAVIOUR</p>"));
  EXPECT_THAT(BehaviourPage(Result(0.01, 20)), HasSubstr("<p class=\"verdict open\">UNDECIDED</p>"));
  verify::Verification invalid = Result(0.01, 300);
  MakeInvalid("a NaN <i>", &*invalid.behaviour);
  invalid.verdict = verify::Verdict::kInvalid;
  const std::string html = BehaviourPage(invalid);
  EXPECT_THAT(html, HasSubstr("<p class=\"verdict other\">INVALID</p>"));
  EXPECT_THAT(html, HasSubstr("a NaN &lt;i&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<svg")));
  // Joined parts: nothing is said of headers, which were not looked at.
  EXPECT_THAT(BehaviourPage(Result(0.01, 300), /*with_config=*/false), Not(HasSubstr("What headers tell")));
}

TEST(BehaviourPageTest, OneScoreAndScoresOfZeroAreDrawnToo) {
  EXPECT_THAT(BehaviourPage(Result(0, 300)), HasSubstr("<svg"));
  EXPECT_THAT(BehaviourPage(Result(0, 300)), Not(HasSubstr("differ most")));
  EXPECT_THAT(BehaviourPage(Result(0.5, 1)), HasSubstr("UNDECIDED"));
}

TEST(BehaviourReportTest, APartHasNoVerdict) {
  verify::Verification part = Result(0.01, 300);
  BehaviourResult& behaviour = *part.behaviour;
  behaviour.share = {2, 3};
  behaviour.scores.resize(100);
  behaviour.evaluation = EvaluatePart(behaviour.scores);
  part.verdict = verify::Verdict::kUndecided;
  EXPECT_EQ(BehaviourVerdictText(part), "PART 2/3");
  const std::string text = BehaviourText(part);
  EXPECT_TRUE(text.starts_with("PART 2/3  (level behaviour)\n"));
  EXPECT_THAT(text, HasSubstr("nothing by itself: 100 of 300 challenges"));
  EXPECT_THAT(text, Not(HasSubstr("interval")));
  const auto json = BehaviourJson(behaviour);
  EXPECT_TRUE(json["interval"].is_null());
  EXPECT_EQ(json["part"]["part"], 2);
  EXPECT_EQ(json["scores"].size(), 100u);
}

TEST(BehaviourReportTest, ALineTellsHowItStands) {
  const std::vector<double> zeros(206, 0.0);
  EXPECT_EQ(
      StandingText(StandingOf({}, zeros), 1024),
      "behaviour: after 206 of 1,024 challenges the mean score lies in 0 to 0.02497, capital SAME e^4.61, DIFFERENT "
      "e^-1.19")
      << "1/25 (1 + sum of (1 - c_j)^206), by Python";
}

}  // namespace
}  // namespace sluice::report
