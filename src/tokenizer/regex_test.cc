#include "tokenizer/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace sluice::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Finds(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::Compile(pattern);
  if (!regex) return {regex.error().message};
  std::vector<std::string> found;
  Regex::Searcher searcher(*regex, text);
  while (true) {
    const auto match = searcher.Next();
    if (!match) return {match.error().message};
    if (!*match) return found;
    found.emplace_back(text.substr((*match)->begin, (*match)->end - (*match)->begin));
  }
}

// What Oniguruma 6.9 finds (Ruby syntax, UTF-8), each.
TEST(Regex, FindsWhatOnigurumaFinds) {
  EXPECT_THAT(Finds("a|ab", "ab"), ElementsAre("a"));
  EXPECT_THAT(Finds("(?:a|ab)c", "abc"), ElementsAre("abc"));
  EXPECT_THAT(Finds("a+?b*", "aab"), ElementsAre("a", "ab"));
  EXPECT_THAT(Finds("a++a", "aaa"), ElementsAre());
  EXPECT_THAT(Finds("a?+ab", "ab aab"), ElementsAre("aab"));
  EXPECT_THAT(Finds("(?>a|ab)c", "abc ac"), ElementsAre("ac"));
  EXPECT_THAT(Finds("(ab){2,3}", "abababab"), ElementsAre("ababab"));
  EXPECT_THAT(Finds("(a*)*b", "aab"), ElementsAre("aab"));
  EXPECT_THAT(Finds("x*", "axb"), ElementsAre("", "x", ""));
  EXPECT_THAT(Finds(R"(\s+(?!\S)|\s+)", "a   b "), ElementsAre("  ", " ", " "));
  EXPECT_THAT(Finds(R"((?<=a)b|(?<!a)c)", "abac c"), ElementsAre("b", "c"));
  EXPECT_THAT(Finds(R"(\b\w)", "ab c-d"), ElementsAre("a", "c", "d"));
  EXPECT_THAT(Finds(R"(^.|.$)", "ab\ncd"), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(Finds(R"(\A.|.\z)", "ab\ncd"), ElementsAre("a", "d"));
  EXPECT_THAT(Finds("[^(a[bc])]+", "xaybz)"), ElementsAre("x", "y", "z"));
  EXPECT_THAT(Finds("(?i:'s|k)", "'S \xE2\x84\xAA '\xC5\xBF"), ElementsAre("'S", "\xE2\x84\xAA", "'\xC5\xBF"));
  EXPECT_THAT(Finds(R"(\x{4E00}-\u4E8C)", "一-二"), ElementsAre("一-二"));
}

TEST(Regex, KnowsUnicode16) {
  EXPECT_THAT(Finds(R"(\p{L}+)", "né\xF0\xB1\x8D\x90\xE1\xB2\x89 "), ElementsAre("né\xF0\xB1\x8D\x90\xE1\xB2\x89"));
  EXPECT_THAT(Finds(R"(\s)", "\xE1\xA0\x8E\xC2\x85\xE3\x80\x80"),
              ElementsAre("\xC2\x85", "\xE3\x80\x80"));  // not U+180E
  EXPECT_THAT(Finds(R"(\d)", "5٣²"), ElementsAre("5", "٣"));
  EXPECT_THAT(Finds(R"(\p{Han}+|\P{L})", "漢字 ab"), ElementsAre("漢字", " "));
}

TEST(Regex, RefusesWhatItDoesNotUnderstand) {
  const std::pair<const char*, const char*> kCases[] = {
      {"(a", "a group without its ) at byte 2"},
      {"a)", "an unmatched ) at byte 1"},
      {"[a", "a class without its ] at byte 2"},
      {"[a&&b]", "an intersection of classes at byte 2"},
      {"*a", "a quantifier of nothing at byte 0"},
      {R"(\Qa)", "\\Q at byte 0"},
      {R"((a)\1)", "a back-reference or octal number at byte 3"},
      {"(?<n>a)", "a group of this kind at byte 1"},
      {R"(\p{Elvish})", "the property Elvish at byte 3"},
      {"a{3,2}", "a { that is no quantifier"},
      {"(?<=a+)b", "looks behind for a text of no fixed length"},
      {"((a{1000}){1000}){1000}", "repeats groups too often"},
  };
  for (const auto& [pattern, message] : kCases) {
    const auto regex = Regex::Compile(pattern);
    ASSERT_FALSE(regex) << pattern;
    EXPECT_EQ(regex.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(regex.error().message, HasSubstr(message));
    EXPECT_THAT(regex.error().message, HasSubstr(pattern));
  }
}

// Ten seconds would be quadratic; the test's own limit would end a recursion.
TEST(Regex, LongRunsTakeLinearTime) {
  const std::string spaces(1 << 20, ' '), letters(1 << 20, 'a');
  EXPECT_EQ(Finds(R"(\s+$)", spaces + "x").size(), 0u);
  EXPECT_EQ(Finds(R"( ?\p{L}+|\s+(?!\S)|\s+)", letters).size(), 1u);
  EXPECT_EQ(Finds(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "x").size(), 2u);
}

TEST(Regex, GivesUpWithAnErrorNotAWrongAnswer) {
  const auto found = Finds("(a|a)*b", std::string(4000, 'a'));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0], HasSubstr("tries too many ways"));
}

}  // namespace
}  // namespace sluice::tokenizer
