#include "tokenizer/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::tokenizer {
namespace {

using testing::ElementsAre;

std::vector<std::string> Parts(const AddedTokens& tokens, std::string_view text, bool parse_special = true) {
  std::vector<std::string> parts;
  for (const Segment& segment : tokens.Split(text, parse_special, false)) {
    std::string part(segment.text);
    if (segment.id) part += "#" + std::to_string(*segment.id);
    parts.push_back(part);
  }
  return parts;
}

AddedToken Token(uint32_t id, std::string content) {
  AddedToken token;
  token.id = id;
  token.content = std::move(content);
  return token;
}

TEST(AddedTokens, TheLeftmostAndThereTheLongestIsFound) {
  const AddedTokens tokens({Token(1, "ab"), Token(2, "abc"), Token(3, "bcd")}, AddedTokens::Way::kLeftmost);
  EXPECT_THAT(Parts(tokens, "xabcdab"), ElementsAre("x", "abc#2", "d", "ab#1"));
  EXPECT_THAT(Parts(tokens, ""), ElementsAre());
}

TEST(AddedTokens, LlamaCppTakesTheLongestFirst) {
  const AddedTokens tokens({Token(1, "ab"), Token(2, "bcd")}, AddedTokens::Way::kLongestFirst);
  EXPECT_THAT(Parts(tokens, "abcdab"), ElementsAre("a", "bcd#2", "ab#1"));
}

TEST(AddedTokens, SpecialOnesAreTextUnlessParsed) {
  for (const auto way : {AddedTokens::Way::kLeftmost, AddedTokens::Way::kLongestFirst}) {
    AddedToken special = Token(1, "<s>");
    special.special = true;
    const AddedTokens tokens({special, Token(2, "<x>")}, way);
    EXPECT_THAT(Parts(tokens, "<s><x>", false), ElementsAre("<s>", "<x>#2"));
    EXPECT_THAT(Parts(tokens, "<s><x>", true), ElementsAre("<s>#1", "<x>#2"));
  }
}

TEST(AddedTokens, WhiteSpaceBesideThemIsTheirs) {
  AddedToken left = Token(1, "<l>"), right = Token(2, "<r>");
  left.lstrip = true;
  right.rstrip = true;
  const AddedTokens tokens({left, right}, AddedTokens::Way::kLeftmost);
  EXPECT_THAT(Parts(tokens, "a \xE3\x80\x80<l> b <r>  c"),
              ElementsAre("a", " \xE3\x80\x80<l>#1", " b ", "<r>  #2", "c"));
  EXPECT_THAT(Parts(tokens, "<r> <l>"), ElementsAre("<r> #2", "<l>#1"));
}

TEST(AddedTokens, SingleWordsStandAlone) {
  AddedToken word = Token(1, "on");
  word.single_word = true;
  const AddedTokens tokens({word}, AddedTokens::Way::kLeftmost);
  EXPECT_THAT(Parts(tokens, "on only on-ion \xC3\xA9on"), ElementsAre("on#1", " only ", "on#1", "-ion \xC3\xA9on"));
}

}  // namespace
}  // namespace sluice::tokenizer
