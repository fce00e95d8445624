#include "tokenizer/tokenizer_files.h"

#include <gtest/gtest.h>

namespace sluice::tokenizer {
namespace {

using Files = std::vector<checkpoint::SideFile>;

Files WithConfig(const std::string& json) { return {{"tokenizer_config.json", "", json}}; }

TEST(TokenizerFiles, TheChatTemplateIsFoundWhereModelsKeepIt) {
  EXPECT_EQ(*ReadChatTemplate(Files{}), "");
  EXPECT_EQ(*ReadChatTemplate(WithConfig("{}")), "");
  EXPECT_EQ(*ReadChatTemplate(WithConfig(R"({"chat_template": " {{ a }}\n"})")), "{{ a }}");
  EXPECT_EQ(*ReadChatTemplate(WithConfig(
                R"({"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]})")),
            "d");
  EXPECT_EQ(*ReadChatTemplate(Files{{"chat_template.jinja", "", "{{ j }}\n"},
                                    {"tokenizer_config.json", "", R"({"chat_template": "x"})"}}),
            "{{ j }}");
  const Files own = {{"chat_template.json", "", R"({"chat_template": "{{ o }}\n"})"},
                     {"tokenizer_config.json", "", R"({"chat_template": "x"})"}};
  EXPECT_EQ(*ReadChatTemplate(own), "{{ o }}");
  EXPECT_EQ(*ReadRawChatTemplate(own), "{{ o }}\n");
  EXPECT_EQ(ReadChatTemplate(WithConfig("[]")).error().code, ErrorCode::kCorrupt);
  // What is no text is none.
  EXPECT_EQ(*ReadChatTemplate(WithConfig(R"({"chat_template": [7, {"name": 1, "template": "t"}]})")), "");
  EXPECT_EQ(*ReadChatTemplate(WithConfig(R"({"chat_template": [{"name": "default", "template": 3}]})")), "");
}

}  // namespace
}  // namespace sluice::tokenizer
