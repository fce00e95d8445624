#include "formats/json_text.h"

#include <gtest/gtest.h>

#include "formats/json_document.h"

namespace sluice::formats {
namespace {

using nlohmann::ordered_json;

std::string Written(const LongObject& object) {
  std::string text;
  WriteJson(object, [&](std::string_view piece) { text += piece; });
  return text;
}

LongObject Example(uint64_t size) {
  LongObject object;
  object.json = {{"first", "a \"line\"\nand \xff one"},
                 {"\xc3\xa4\n", {{"x", 0.1}, {"empty", ordered_json::array()}, {"none", nullptr}}},
                 {"many", ordered_json::array()},
                 {"last", {1, -2, {3.5, true}}}};
  object.list = "many";
  object.size = size;
  object.element = [](uint64_t i) -> ordered_json {
    if (i % 3 == 0) return {{"name", "t" + std::to_string(i)}, {"shape", {i, 2}}, {"more", ordered_json::object()}};
    if (i % 3 == 1) return i;
    return ordered_json::array();
  };
  return object;
}

TEST(WriteJson, GivesTheTextOfTheWholeObject) {
  for (const uint64_t size : {0, 1, 2, 7}) {
    const LongObject object = Example(size);
    const ordered_json whole = WholeObject(object);
    EXPECT_EQ(whole.at("many").size(), size);
    EXPECT_EQ(Written(object), JsonText(whole, 2)) << size;
  }
  EXPECT_EQ(Written({}), JsonText(ordered_json::object(), 2));
  LongObject plain;
  plain.json = {{"x", {1, 2}}};
  EXPECT_EQ(Written(plain), JsonText(plain.json, 2));
}

TEST(ParseJsonInParts, HandsOutTheElementsAndKeepsTheRest) {
  const std::string text = Written(Example(7));
  ordered_json elements = ordered_json::array();
  const auto rest =
      ParseJsonInParts(text, "x.json", "many", [&](ordered_json element) { elements.push_back(std::move(element)); });
  ASSERT_TRUE(rest.has_value()) << rest.error().ToString();
  ordered_json whole = *ParseJson(text, "x.json");
  EXPECT_EQ(elements, whole.at("many"));
  whole["many"] = ordered_json::array();
  EXPECT_EQ(*rest, whole);
}

TEST(ParseJsonInParts, TakesOnlyTheListOfTheOutermostObject) {
  for (const char* text : {R"({"in": {"many": [1, 2]}, "many": {"x": [1]}})", R"([{"many": [1]}])", R"({"many": 3})"}) {
    const auto rest = ParseJsonInParts(text, "x.json", "many", [](const ordered_json&) { FAIL(); });
    ASSERT_TRUE(rest.has_value()) << rest.error().ToString();
    EXPECT_EQ(*rest, *ParseJson(text, "x.json"));
  }
  // As strict as ParseJson, within the elements too.
  for (const char* text : {R"({"many": [1, {"a": 1, "a": 2}]})", R"({"many": [1,]})", R"({"many": [1], "many": [2]})",
                           R"({"many": [1]} x)", R"({"many": [1)"}) {
    const auto rest = ParseJsonInParts(text, "x.json", "many", [](const ordered_json&) {});
    ASSERT_FALSE(rest.has_value()) << text;
    EXPECT_EQ(rest.error().ToString(), ParseJson(text, "x.json").error().ToString());
  }
}

}  // namespace
}  // namespace sluice::formats
