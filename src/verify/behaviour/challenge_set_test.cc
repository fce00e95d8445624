#include "verify/behaviour/challenge_set.h"

#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::verify::behaviour {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Commitment Known() { return Commit(*ParseNonce("00112233445566778899aabbccddeeff"), {{"x", 1}}); }

// By Python's hmac, hashlib and json, from docs/behaviour.md.
TEST(ChallengeSetTest, ChallengesAreThoseOfTheSpecification) {
  const Commitment commitment = Known();
  EXPECT_EQ(kernels::ToHex(commitment.run_id), "5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22");
  EXPECT_EQ(kernels::ToHex(commitment.hash), "048acd0867ff703c3850d89e0fecb0117802b4b7138486eb9d7a08cda77df838");
  std::vector<uint32_t> drawable;
  for (uint32_t i = 0; i < 1000; ++i) drawable.push_back(2 * i + 1);
  EXPECT_THAT(DrawChallenge(commitment, 0, 6, drawable), ElementsAre(1137, 341, 1105, 77, 563, 1897));
  EXPECT_THAT(DrawChallenge(commitment, 1, 6, drawable), ElementsAre(707, 1003, 1955, 1609, 1999, 871));
  EXPECT_THAT(DrawChallenge(commitment, 12, 6, drawable), ElementsAre(723, 241, 1605, 523, 1713, 1149));
  // A longer one begins with the shorter.
  EXPECT_THAT(DrawChallenge(commitment, 12, 2, drawable), ElementsAre(723, 241));
}

TEST(ChallengeSetTest, EveryTermChangesTheRun) {
  RunTerms terms;
  terms.challenges = 8;
  std::set<std::string> runs;
  const auto add = [&] {
    runs.insert(kernels::ToHex(Commit(*ParseNonce("00112233445566778899aabbccddeeff"), TermsJson(terms)).run_id));
  };
  add();
  terms.settings.gamma = 0.03;
  add();
  terms.settings.alpha = 0.02;
  add();
  terms.challenges = 9;
  add();
  terms.challenge_tokens = 7;
  add();
  terms.drawable = 3;
  add();
  terms.vocabulary[31] = 1;
  add();
  for (RunTerms::Model* model : {&terms.a, &terms.b}) {
    model->config[0] = 1;
    add();
    model->tokenizer[0] = 1;
    add();
    model->headers[0] = 1;
    add();
  }
  terms.prompts.emplace();
  add();
  terms.settings.population = 5;
  add();
  EXPECT_EQ(runs.size(), 15u);
}

TEST(ChallengeSetTest, PromptsAreLines) {
  const auto prompts = SplitPrompts("\xef\xbb\xbfone\r\n\n \ntwo\n\r\nthree", "p.txt");
  ASSERT_TRUE(prompts.has_value());
  std::vector<std::pair<uint64_t, std::string>> found;
  for (const Prompt& prompt : *prompts) found.emplace_back(prompt.line, prompt.text);
  EXPECT_THAT(found, ElementsAre(std::pair(1, "one"), std::pair(3, " "), std::pair(4, "two"), std::pair(6, "three")));
  for (const char* none : {"", "\n\n", "\r\n", "\xef\xbb\xbf"}) {
    const auto split = SplitPrompts(none, "p.txt");
    ASSERT_FALSE(split.has_value());
    EXPECT_EQ(split.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(split.error().ToString(), HasSubstr("p.txt: has no prompt"));
  }
  EXPECT_THAT(SplitPrompts("good\nbad \xff\n", "p.txt").error().ToString(), HasSubstr("line 2 is not UTF-8 at byte 4"));
}

TEST(ShareTest, SharesAreDisjointAndAll) {
  for (const uint64_t parts : {1u, 2u, 3u, 7u, 12u}) {
    for (const uint64_t challenges : {1u, 5u, 12u, 100u}) {
      std::set<uint64_t> places;
      for (uint64_t part = 1; part <= parts; ++part) {
        const Share share{part, parts};
        for (uint64_t i = 0; i < share.CountOf(challenges); ++i) {
          EXPECT_LT(share.PlaceOf(i), challenges);
          EXPECT_TRUE(places.insert(share.PlaceOf(i)).second);
        }
      }
      EXPECT_EQ(places.size(), challenges);
    }
  }
  EXPECT_EQ(Share{}.CountOf(9), 9u);
  EXPECT_EQ(Share{}.PlaceOf(4), 4u);
}

TEST(ShareTest, IsReadAsIOfN) {
  const auto share = ParseShare("2/5");
  ASSERT_TRUE(share.has_value());
  EXPECT_EQ(share->part, 2u);
  EXPECT_EQ(share->parts, 5u);
  for (const char* bad : {"", "2", "2/", "/5", "0/5", "6/5", "2/5 ", "-1/5", "2/5/6", "a/b", "1/99999999"}) {
    const auto parsed = ParseShare(bad);
    ASSERT_FALSE(parsed.has_value()) << bad;
    EXPECT_EQ(parsed.error().code, ErrorCode::kUsage);
  }
}

}  // namespace
}  // namespace sluice::verify::behaviour
