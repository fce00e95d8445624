#include "checkpoint/rename_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string To(const std::string& from, const std::string& to, const std::string& name) {
  return Renamed({from, to}, name).value_or("(no match)");
}

TEST(RenameRules, AStarTakesOneOrMoreCharactersWithoutADot) {
  EXPECT_EQ(To("a.b", "c", "a.b"), "c");
  EXPECT_EQ(To("a.b", "c", "a.bb"), "(no match)");
  EXPECT_EQ(To("a.b", "c", "a.b.c"), "(no match)");
  EXPECT_EQ(To("l.*.w", "m.*.v", "l.17.w"), "m.17.v");
  EXPECT_EQ(To("l.*.w", "m.*.v", "l..w"), "(no match)");
  EXPECT_EQ(To("l.*.w", "m.*.v", "l.1.2.w"), "(no match)");
  EXPECT_EQ(To("*", "x.*", "w"), "x.w");
  EXPECT_EQ(To("*", "x.*", "w.b"), "(no match)");
  EXPECT_EQ(To("*.*", "*.y", "a.b"), "a.y");
  EXPECT_EQ(To("*.*.c", "x.*", "a.b.c"), "x.a");
  EXPECT_EQ(To("a*", "*", "a"), "(no match)");
  EXPECT_EQ(To("a*b", "*", "ab"), "(no match)");
  EXPECT_EQ(To("a*b", "*", "axb"), "x");
}

TEST(RenameRules, StarsOfOnePartTakeAsLittleAsFits) {
  EXPECT_EQ(To("*_*", "*-*", "a_b_c"), "a-b_c");
  EXPECT_EQ(To("*a*b", "*|*", "xaab"), "x|a");
  EXPECT_EQ(To("*a*b", "*|*", "aaab"), "a|a");  // the first star needs a character
  EXPECT_EQ(To("**", "*+*", "abc"), "a+bc");
  EXPECT_EQ(To("**", "*+*", "a"), "(no match)");
  EXPECT_EQ(To("*ab*", "*+*", "abxaby"), "abx+y");
  EXPECT_EQ(To("*ab*ab", "*+*", "xabab"), "(no match)");
}

TEST(RenameRules, AHostilePatternIsLinear) {
  std::string pattern, name(1 << 20, 'a');
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  EXPECT_EQ(To(pattern + "*b", "x", name), "(no match)");
}

TEST(RenameRules, WhatCannotBeMeant) {
  const auto error = [](const char* text) {
    const auto rule = ParseRename(text);
    EXPECT_FALSE(rule) << text;
    if (rule) return std::string();
    EXPECT_EQ(rule.error().code, ErrorCode::kUsage);
    return rule.error().ToString();
  };
  EXPECT_THAT(error("a"), HasSubstr("--rename a: write --rename OLD=NEW"));
  EXPECT_THAT(error("=a"), HasSubstr("--rename =a: a name is empty"));
  EXPECT_THAT(error("a="), HasSubstr("a name is empty"));
  EXPECT_THAT(error("a.*=b.*.*"), HasSubstr("more stars"));
  EXPECT_THAT(error("a\xff=b"), HasSubstr("not UTF-8"));
  const auto cut = ParseRename("a=b=c");
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->from, "a");
  EXPECT_EQ(cut->to, "b=c");
}

TEST(RenameRules, AFileKeepsItsOrder) {
  tests::TempDir dir;
  const std::string path = dir / "map.json";
  tests::WriteText(path, R"({"z.*": "y.*", "a=b": "c"})");
  const auto rules = ReadRenameFile(path);
  ASSERT_TRUE(rules) << rules.error().ToString();
  ASSERT_EQ(rules->size(), 2u);
  EXPECT_EQ((*rules)[0].from, "z.*");
  EXPECT_EQ((*rules)[1].from, "a=b");
  EXPECT_EQ((*rules)[1].to, "c");

  EXPECT_EQ(ReadRenameFile(dir / "none.json").error().code, ErrorCode::kNotFound);
  for (const auto& [text, words] :
       {std::pair(R"({"a": 1})", "the new name of a is number"), std::pair("[]", "JSON object"),
        std::pair("{}", "JSON object"), std::pair("{", "line 1"), std::pair("", "line 1"),
        std::pair(R"({"a": "b", "a": "c"})", "a"), std::pair(R"({"a": ""})", "a name is empty"),
        std::pair(R"({"a": "*"})", "more stars")}) {
    tests::WriteText(path, text);
    const auto bad = ReadRenameFile(path);
    ASSERT_FALSE(bad) << text;
    EXPECT_EQ(bad.error().code, ErrorCode::kUsage) << text;
    EXPECT_THAT(bad.error().ToString(), HasSubstr(words)) << text;
    EXPECT_THAT(bad.error().ToString(), HasSubstr(path)) << text;
  }
}

TEST(RenameRules, TheFirstThatMatchesWins) {
  Catalogue tensors;
  for (const char* name : {"l.1.w", "l.2.w", "n"}) tensors.Add(name, quant::F32(), {}, 1);
  tensors.Sort();
  const auto names = [&](std::vector<RenameRule> rules) { return RenamedTensors(tensors, rules); };
  EXPECT_THAT(*names({}), ElementsAre("l.1.w", "l.2.w", "n"));
  EXPECT_THAT(*names({{"l.1.w", "x"}, {"l.*.w", "m.*"}}), ElementsAre("x", "m.2", "n"));
  EXPECT_THAT(*names({{"l.1.w", "l.1.w"}, {"l.*.w", "m.*"}}), ElementsAre("l.1.w", "m.2", "n"));
  EXPECT_THAT(*names({{"l.1.w", "l.2.w"}, {"l.2.w", "l.1.w"}}), ElementsAre("l.2.w", "l.1.w", "n"));  // no chains

  const auto error = [&](std::vector<RenameRule> rules) {
    const auto result = names(std::move(rules));
    EXPECT_FALSE(result);
    if (result) return std::string();
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
    return result.error().ToString();
  };
  EXPECT_THAT(error({{"l.*", "x", "--rename"}}), HasSubstr("--rename l.*=x: no tensor has such a name"));
  EXPECT_THAT(error({{"n", "m"}, {"n", "o", "map.json"}}), HasSubstr("map.json: n=o: what it matches, n for one"));
  EXPECT_THAT(error({{"l.*.w", "l"}}), HasSubstr("two tensors would be named l: l.1.w and l.2.w"));
  EXPECT_THAT(error({{"l.1.w", "n"}}), HasSubstr("two tensors would be named n: l.1.w and n"));
  EXPECT_THAT(error({{"n", "__metadata__"}}), HasSubstr("reserves"));
}

}  // namespace
}  // namespace sluice::checkpoint
