#include "merge/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::merge {
namespace {

using checkpoint::SideFile;
using Files = std::vector<SideFile>;

Files WithConfig(const std::string& json) { return {{"tokenizer_config.json", "", json}}; }

TEST(ChatTemplate, AutoIsTheMostCommon) {
  const auto of = [](const std::string& text) { return WithConfig("{\"chat_template\": \"" + text + "\"}"); };
  EXPECT_EQ(*ResolveChatTemplate("auto", std::vector<Files>{of("a"), of("b"), {}, of(" b")}), "b");
  EXPECT_EQ(*ResolveChatTemplate("auto", std::vector<Files>{of("a"), of("b")}), "a");
  EXPECT_EQ(*ResolveChatTemplate("auto", std::vector<Files>{Files{}}), "");
  EXPECT_EQ(*ResolveChatTemplate("{{ x }}", std::vector<Files>{of("a")}), "{{ x }}");
  for (const std::string_view name : ChatTemplateNames()) {
    EXPECT_TRUE(IsChatTemplate(name));
    EXPECT_THAT(*ResolveChatTemplate(std::string(name), {}), testing::HasSubstr("message['content']")) << name;
  }
  EXPECT_TRUE(IsChatTemplate("auto"));
  EXPECT_FALSE(IsChatTemplate("vicuna"));
}

TEST(ChatTemplate, ReplacesTheOneThatWasThere) {
  const Files files = {{"chat_template.jinja", "", "old"},
                       {"chat_template.json", "", R"({"chat_template": "old"})"},
                       {"tokenizer.json", "", "{}"},
                       {"tokenizer_config.json", "", R"({"chat_template": "old", "bos_token": "<s>"})"}};
  const auto changed = WithChatTemplate(files, "{{ new }}");
  ASSERT_TRUE(changed.has_value());
  ASSERT_EQ(changed->size(), 2u);
  EXPECT_EQ((*changed)[1].name, "tokenizer_config.json");
  EXPECT_EQ((*changed)[1].bytes, "{\n  \"chat_template\": \"{{ new }}\",\n  \"bos_token\": \"<s>\"\n}\n");
  const auto added = WithChatTemplate(Files{{"tokenizer.json", "", "{}"}}, "{{ new }}");
  ASSERT_TRUE(added.has_value());
  EXPECT_EQ(added->at(1).bytes, "{\n  \"chat_template\": \"{{ new }}\"\n}\n");
}

}  // namespace
}  // namespace sluice::merge
