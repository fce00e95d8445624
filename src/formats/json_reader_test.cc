#include "formats/json_reader.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/json_document.h"

namespace sluice::formats {
namespace {

using ::testing::HasSubstr;

JsonError ErrorOf(std::string_view text) {
  JsonReader json(text);
  if (json.Skip()) json.End();
  return json.error();
}

TEST(JsonReader, AcceptsAllOfJson) {
  for (const std::string_view text :
       {"{}", "[]", " [ 1 , -0 , 0.5e+10 , 1E-2, true , false , null , \"\" ] \n", "\"\\u0000\\ud83d\\ude00\\/\"", "0",
        "-1.0", "{\"a\":{\"b\":[{}]},\"a\":1}", "\"\x7f\xc2\x80\xf4\x8f\xbf\xbf\""}) {
    EXPECT_EQ(ErrorOf(text), JsonError::kNone) << text;
  }
}

TEST(JsonReader, RefusesEverythingElse) {
  const std::vector<std::pair<std::string, JsonError>> cases = {
      {"", JsonError::kEnd},
      {"  ", JsonError::kEnd},
      {"{", JsonError::kEnd},
      {"[1", JsonError::kEnd},
      {"\"a", JsonError::kEnd},
      {"\"\\", JsonError::kEnd},
      {"\"\\u12", JsonError::kEnd},
      {"{\"a\"", JsonError::kEnd},
      {"{\"a\":", JsonError::kEnd},
      {"[1,]", JsonError::kSyntax},
      {"{\"a\":1,}", JsonError::kSyntax},
      {"[,1]", JsonError::kSyntax},
      {"{1:2}", JsonError::kSyntax},
      {"01", JsonError::kSyntax},
      {"-", JsonError::kEnd},
      {"- 1", JsonError::kSyntax},
      {"1.", JsonError::kEnd},
      {"1.e5", JsonError::kSyntax},
      {".5", JsonError::kSyntax},
      {"+1", JsonError::kSyntax},
      {"1e", JsonError::kEnd},
      {"1x", JsonError::kSyntax},
      {"0x1", JsonError::kSyntax},
      {"NaN", JsonError::kSyntax},
      {"Infinity", JsonError::kSyntax},
      {"-Infinity", JsonError::kSyntax},
      {"tru", JsonError::kSyntax},
      {"nulll", JsonError::kTrailing},
      {"'a'", JsonError::kSyntax},
      {"// a\n1", JsonError::kSyntax},
      {"\"\\a\"", JsonError::kSyntax},
      {"\"\t\"", JsonError::kControlCharacter},
      {"\"\\ud83d\"", JsonError::kLoneSurrogate},
      {"\"\\ud83dx\"", JsonError::kLoneSurrogate},
      {"\"\\udc00\\ud83d\"", JsonError::kLoneSurrogate},
      {"\"\\ud83d\\u0041\"", JsonError::kLoneSurrogate},
      {"1 2", JsonError::kTrailing},
      {"{} \v", JsonError::kTrailing},
      {"\xef\xbb\xbf{}", JsonError::kByteOrderMark},
      {"\"\x80\"", JsonError::kNotUtf8},
      {"\"\xe0\x80\x80\"", JsonError::kNotUtf8},
      {"\"\xf0\x80\x80\x80\"", JsonError::kNotUtf8},
      {"\"\xf5\x80\x80\x80\"", JsonError::kNotUtf8},
      {"\"\xc2\"", JsonError::kNotUtf8},
      {std::string("1\0", 2), JsonError::kSyntax},
      {"[1}", JsonError::kSyntax},
      {"{\"a\":1]", JsonError::kSyntax},
  };
  for (const auto& [text, error] : cases) {
    EXPECT_EQ(static_cast<int>(ErrorOf(text)), static_cast<int>(error)) << text;
  }
}

TEST(JsonReader, NestsTo128) {
  EXPECT_EQ(ErrorOf(std::string(128, '[') + std::string(128, ']')), JsonError::kNone);
  EXPECT_EQ(ErrorOf(std::string(129, '[') + std::string(129, ']')), JsonError::kTooDeep);
}

TEST(JsonReader, PullsInOrder) {
  JsonReader json(R"({"a":[1,{"b":"x\ty"},true],"c":18446744073709551615})");
  std::string_view text;
  JsonNumber number;
  ASSERT_TRUE(json.BeginObject());
  ASSERT_TRUE(json.NextKey(&text));
  EXPECT_EQ(text, "a");
  EXPECT_EQ(json.token(), 1u);
  ASSERT_TRUE(json.BeginArray());
  ASSERT_TRUE(json.NextElement());
  ASSERT_TRUE(json.Number(&number));
  EXPECT_EQ(number.AsUint64(), 1u);
  ASSERT_TRUE(json.NextElement());
  ASSERT_TRUE(json.BeginObject());
  ASSERT_TRUE(json.NextKey(&text));
  ASSERT_TRUE(json.String(&text));
  EXPECT_EQ(text, "x\ty");
  EXPECT_FALSE(json.NextKey(&text));
  ASSERT_TRUE(json.NextElement());
  EXPECT_EQ(json.Peek(), JsonType::kTrue);
  ASSERT_TRUE(json.Literal());
  EXPECT_FALSE(json.NextElement());
  ASSERT_TRUE(json.NextKey(&text));
  ASSERT_TRUE(json.Number(&number));
  EXPECT_EQ(number.AsUint64(), UINT64_MAX);
  EXPECT_FALSE(json.NextKey(&text));
  EXPECT_TRUE(json.End());
  EXPECT_TRUE(json.ok());
}

TEST(JsonReader, AnotherTypeIsAnErrorThatStays) {
  JsonReader json("{\"a\":[]}");
  std::string_view text;
  ASSERT_TRUE(json.BeginObject());
  ASSERT_TRUE(json.NextKey(&text));
  EXPECT_FALSE(json.String(&text));
  EXPECT_EQ(json.error(), JsonError::kType);
  EXPECT_EQ(json.offset(), 5u);
  EXPECT_EQ(json.message(), "an array where a string is expected");
  EXPECT_FALSE(json.Skip());
  EXPECT_FALSE(json.End());
}

TEST(JsonReader, LinesAndColumnsCountCharacters) {
  const std::string_view text = "a\n\u00e9\u00e9x";
  EXPECT_EQ(LineColumnAt(text, 0).column, 1u);
  EXPECT_EQ(LineColumnAt(text, 6).line, 2u);
  EXPECT_EQ(LineColumnAt(text, 6).column, 3u);
}

TEST(JsonReader, WritesStrings) {
  std::string out;
  AppendJsonString(std::string_view("a\"\\\b\f\n\r\t\0\x1f\x7f\u00e9/", 14), &out);
  EXPECT_EQ(out, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\u00e9/\"");
}

TEST(JsonDocument, KeepsOrderAndNumbers) {
  const auto document = ParseJson(R"({"b":1,"a":[-1,2.5,1e400000000000000000000e],"c":0})", "f");
  EXPECT_FALSE(document);  // 'e' after an exponent
  const auto good = ParseJson(
      R"({"b":1,"a":[-1,2.5,18446744073709551615,18446744073709551616,-9223372036854775809,1e-400,-0,5e-324],"t":true,"n":null,"s":"\u00e9"})",
      "f");
  ASSERT_TRUE(good) << good.error().ToString();
  EXPECT_EQ(good->begin().key(), "b");
  const auto& a = (*good)["a"];
  EXPECT_EQ(a[0].get<int64_t>(), -1);
  EXPECT_TRUE(a[2].is_number_unsigned());
  EXPECT_EQ(a[2].get<uint64_t>(), UINT64_MAX);
  EXPECT_TRUE(a[3].is_number_float());
  EXPECT_EQ(a[3].get<double>(), 18446744073709551616.0);
  EXPECT_EQ(a[4].get<double>(), -9223372036854775808.0);
  EXPECT_EQ(a[5].get<double>(), 0.0);
  EXPECT_TRUE(a[6].is_number_integer());
  EXPECT_EQ(a[7].get<double>(), 5e-324);
  EXPECT_TRUE((*good)["n"].is_null());
  EXPECT_EQ((*good)["s"].get<std::string>(), "\u00e9");
}

TEST(JsonDocument, ErrorsSayWhere) {
  const auto twice = ParseJson("{\n  \"a\": {\"x\": 1,\n \"x\": 2}\n}", "config.json");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(twice.error().ToString(), "config.json: line 3, column 2: the key \"x\" stands here a second time");
  EXPECT_TRUE(ParseJson(R"({"a":{"x":1},"b":{"x":1}})", "f"));

  const auto comma = ParseJson("{\n  \"a\": 1,\n}", "config.json");
  ASSERT_FALSE(comma);
  EXPECT_EQ(comma.error().ToString(), "config.json: line 2, column 9: a trailing comma");

  const auto large = ParseJson("[1e999]", "f");
  ASSERT_FALSE(large);
  EXPECT_THAT(large.error().ToString(), HasSubstr("1e999 is beyond the range"));
  const std::string digits(400, '9');
  EXPECT_FALSE(ParseJson("[" + digits + "]", "f"));
  EXPECT_TRUE(ParseJson("[" + digits + "e-300]", "f"));
  EXPECT_FALSE(ParseJson("{} x", "f"));
}

}  // namespace
}  // namespace sluice::formats
