#include "checkpoint/folder_index.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text, ErrorCode code = ErrorCode::kCorrupt) {
  const auto index = FolderIndex::Parse(text, "i.json");
  EXPECT_FALSE(index) << text;
  if (index) return "";
  EXPECT_EQ(index.error().code, code) << text;
  return index.error().ToString();
}

TEST(FolderIndex, ReadsWhatHuggingFaceWrites) {
  const auto index = FolderIndex::Parse(R"({
  "metadata": {"total_size": 16, "total_parameters": 8.0, "other": [null]},
  "weight_map": {
    "b": "model-00002-of-00002.safetensors",
    "a": "model-00001-of-00002.safetensors",
    "c": "./model-00002-of-00002.safetensors",
    "d": "sub/x.safetensors"
  },
  "more": {}
})",
                                        "i.json");
  ASSERT_TRUE(index) << index.error().ToString();
  EXPECT_THAT(index->files(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "sub/x.safetensors"));
  ASSERT_EQ(index->size(), 4u);
  EXPECT_EQ(index->tensor(0), "a");
  EXPECT_EQ(index->file_of(0), 0u);
  EXPECT_EQ(index->file_of(1), 1u);
  EXPECT_EQ(index->file_of(2), 1u);
  EXPECT_EQ(index->file_of(3), 2u);
  EXPECT_EQ(index->Find("c"), 2u);
  EXPECT_EQ(index->Find("e"), std::nullopt);
  EXPECT_EQ(index->Find(""), std::nullopt);
  EXPECT_EQ(index->total_size(), 16u);
  EXPECT_EQ(index->total_parameters(), 8u);
}

TEST(FolderIndex, TotalsAreAdvisory) {
  for (const char* metadata : {"null", "{}", "{\"total_size\":null}", "{\"total_size\":\"4\"}", "{\"total_size\":-4}",
                               "{\"total_size\":1.5}", "[]"}) {
    const auto index = FolderIndex::Parse(
        fmt::format(R"({{"metadata":{},"weight_map":{{"a":"x.safetensors"}}}})", metadata), "i.json");
    ASSERT_TRUE(index) << metadata;
    EXPECT_EQ(index->total_size(), std::nullopt) << metadata;
  }
  EXPECT_EQ(FolderIndex::Parse(R"({"metadata":{"total_size":1.4e10},"weight_map":{"a":"x.safetensors"}})", "i.json")
                ->total_size(),
            14000000000u);
}

TEST(FolderIndex, RefusesWhatIsMalformed) {
  EXPECT_THAT(ErrorOf("{\n \"weight_map\": {\"a\": \"x.safetensors\",}\n}"),
              HasSubstr("i.json: line 2, column 37: a trailing comma"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("an array where an object is expected"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("there is no weight_map"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{}})"), HasSubstr("weight_map is empty"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":[]})"), HasSubstr("an array where an object is expected"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"a":1}})"),
              HasSubstr("line 1, column 20: a number where a string is expected"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"a":"x.safetensors"},"weight_map":{}})"),
              HasSubstr("\"weight_map\" stands here a second time"));
  EXPECT_THAT(ErrorOf("{\"weight_map\":{\"a\":\"x.safetensors\",\n\"\\u0061\":\"x.safetensors\"}}"),
              HasSubstr("line 2, column 1: the tensor a stands in weight_map a second time"));
  EXPECT_THAT(ErrorOf("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"a":"x.json"}})"), HasSubstr("not a .safetensors or .bin file"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"a":"x.safetensors","b":"x.bin"}})"),
              HasSubstr("\"x.bin\" is of another format than \"x.safetensors\""));
}

TEST(FolderIndex, RefusesPathsThatLeaveTheFolder) {
  for (const char* path : {"../x.safetensors", "a/../../x.safetensors", "/x.safetensors", "//x.safetensors", "", ".",
                           "..", "a/", "./", "x\\u0000.safetensors"}) {
    EXPECT_THAT(ErrorOf(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", path)),
                HasSubstr("is not a file inside the folder"))
        << path;
  }
}

TEST(ShardName, Parses) {
  const auto name = ParseShardName("model-00003-of-000007.safetensors");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->prefix, "model");
  EXPECT_EQ(name->number, 3u);
  EXPECT_EQ(name->count, 7u);
  EXPECT_EQ(ParseShardName("pytorch_model-00003-of-00007.bin")->prefix, "pytorch_model");
  EXPECT_EQ(ParseShardName("a-b-1-of-2.safetensors")->prefix, "a-b");
  for (const char* other :
       {"model.safetensors", "model-1-of-.safetensors", "model--of-2.safetensors", "model1-of-2.safetensors",
        "-of-2.safetensors", "model-00001-of-00002.gguf", "model-99999999999999999999-of-2.safetensors", ""}) {
    EXPECT_FALSE(ParseShardName(other)) << other;
  }
}

}  // namespace
}  // namespace sluice::checkpoint
