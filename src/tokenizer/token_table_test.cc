#include "tokenizer/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::tokenizer {
namespace {

using checkpoint::SideFile;
using Files = std::vector<SideFile>;
using testing::HasSubstr;

constexpr char kBpe[] = R"({"added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 5, "content": "<x>"}],
  "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "abb": 4},
            "merges": ["a b", ["ab", "b"]]}})";

TEST(TokenTable, ReadsPiecesAndAddedTokens) {
  const Files files = {{"tokenizer.json", "", kBpe},
                       {"tokenizer_config.json", "", R"({"added_tokens_decoder": {"0": {"content": "<s>"},
                         "6": {"content": "<y>", "special": true}}})"}};
  const auto read = ReadTokenTable(files);
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  const TokenTable& table = **read;
  EXPECT_EQ(table.end(), 7u);
  EXPECT_EQ(table.Find("ab"), 3u);
  EXPECT_EQ(table.Find("<x>"), 5u);
  EXPECT_EQ(table.Find("<y>"), 6u);
  EXPECT_EQ(table.Find("c"), std::nullopt);
  EXPECT_TRUE(table.IsAdded("<s>"));
  EXPECT_FALSE(table.IsAdded("a"));
  ASSERT_EQ(table.added.size(), 3u);
  EXPECT_EQ(table.added[0].settings["special"], true);
  EXPECT_EQ(table.added[1].settings.dump(),
            R"({"id":5,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)"
            R"("special":false})");
}

TEST(TokenTable, ReadsUnigramAndRefusesWhatIsNone) {
  const auto unigram = ReadTokenTable(
      Files{{"tokenizer.json", "", R"({"model": {"type": "Unigram", "vocab": [["<unk>", 0], ["a", -1.5]]}})"}});
  ASSERT_TRUE(unigram.has_value());
  EXPECT_EQ((*unigram)->Find("a"), 1u);
  EXPECT_FALSE(ReadTokenTable(Files{})->has_value());
  const auto error = [](const std::string& json) {
    const auto read = ReadTokenTable(Files{{"tokenizer.json", "", json}});
    return read ? std::string() : read.error().ToString();
  };
  EXPECT_THAT(error("[1"), HasSubstr("tokenizer.json: not a JSON object"));
  EXPECT_THAT(error("{}"), HasSubstr("no model.vocab"));
  EXPECT_THAT(error(R"({"model": {"vocab": {"a": -1}}})"), HasSubstr("model.vocab['a'] is not an id"));
  EXPECT_THAT(error(R"({"model": {"vocab": [1]}})"), HasSubstr("not a piece and its score"));
  EXPECT_THAT(error(R"({"model": {"vocab": {"a": 1}}, "added_tokens": [{"id": 3}]})"),
              HasSubstr("an added token without id or content"));
}

TEST(TokenTable, WritesAdditionsAndDropsWhatHasNoRow) {
  const Files files = {
      {"added_tokens.json", "", R"({"<x>": 5})"},
      {"special_tokens_map.json", "", "{}"},
      {"tokenizer.json", "", kBpe},
      {"tokenizer_config.json", "", R"({"added_tokens_decoder": {"0": {"content": "<s>"}, "5": {"content": "<x>"}}})"}};
  AddedEntry entry{4, "<new>", {{"id", 4}, {"content", "<new>"}, {"special", true}}};
  const auto written = WithTokens(files, std::vector{entry}, 4);
  ASSERT_TRUE(written.has_value()) << written.error().ToString();
  EXPECT_EQ(nlohmann::json::parse((*written)[0].bytes), nlohmann::json::parse(R"({"<new>": 4})"));
  EXPECT_EQ((*written)[1].bytes, "{}");
  const auto json = nlohmann::json::parse((*written)[2].bytes);
  EXPECT_EQ(json["model"]["vocab"].dump(), R"({"<s>":0,"a":1,"ab":3,"b":2})");
  EXPECT_EQ(json["model"]["merges"].dump(), R"(["a b"])");
  EXPECT_EQ(json["added_tokens"].size(), 2u);
  EXPECT_EQ(json["added_tokens"][1]["content"], "<new>");
  EXPECT_EQ(nlohmann::json::parse((*written)[3].bytes)["added_tokens_decoder"].dump(),
            R"({"0":{"content":"<s>"},"4":{"content":"<new>","special":true}})");
  EXPECT_THAT(WithTokens(Files{{"tokenizer.model", "", "x"}}, {}, 4).error().message,
              HasSubstr("has no tokenizer.json"));
  const Files unigram = {{"tokenizer.json", "", R"({"model": {"vocab": [["a", 0], ["b", 0]]}})"}};
  EXPECT_TRUE(WithTokens(unigram, {}, 2).has_value());
  EXPECT_THAT(WithTokens(unigram, {}, 1).error().message, HasSubstr("only a BPE model can lose pieces"));
}

}  // namespace
}  // namespace sluice::tokenizer
