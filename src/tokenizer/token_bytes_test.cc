#include <gtest/gtest.h>

#include "tokenizer/tokenizer_json.h"

namespace sluice::tokenizer {
namespace {

TEST(TokenBytesTest, AreThoseWithinATextWhateverThePieceLooksLike) {
  const auto gpt2 = ParseTokenizerJson(
      R"({"added_tokens":[{"id":4,"content":"<s>","special":true,"single_word":false,"lstrip":false,"rstrip":false,)"
      R"("normalized":false}],"decoder":{"type":"ByteLevel"},)"
      R"("model":{"type":"BPE","vocab":{"Ġa":0,"é":1,"b":2,"<s>":4},"merges":[]}})",
      "tokenizer.json", {});
  ASSERT_TRUE(gpt2.has_value()) << gpt2.error().ToString();
  EXPECT_EQ((*gpt2)->TokenBytes(0), " a");
  EXPECT_EQ((*gpt2)->TokenBytes(1), "\xe9") << "half a character";
  EXPECT_EQ((*gpt2)->TokenBytes(2), "b");
  EXPECT_EQ((*gpt2)->TokenBytes(3), std::nullopt) << "a hole";
  EXPECT_EQ((*gpt2)->TokenBytes(4), "<s>") << "special: its own text";
  EXPECT_EQ((*gpt2)->TokenBytes(5), std::nullopt) << "beyond the end";
  const auto pieces = ParseTokenizerJson(
      R"({"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},)"
      R"({"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},)"
      R"("model":{"type":"BPE","vocab":{"▁a":0,"<0xE9>":1,"é":2},"merges":[]}})",
      "tokenizer.json", {});
  ASSERT_TRUE(pieces.has_value()) << pieces.error().ToString();
  EXPECT_EQ((*pieces)->TokenBytes(0), " a") << "its space, though a text's first is stripped";
  EXPECT_EQ((*pieces)->TokenBytes(1), "\xe9");
  EXPECT_EQ((*pieces)->TokenBytes(2), "é");
}

}  // namespace
}  // namespace sluice::tokenizer
