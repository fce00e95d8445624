#include "tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <fmt/format.h>

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;
using Ids = std::vector<uint32_t>;

constexpr char kModel[] =
    R"("model":{"type":"BPE","unk_token":"<unk>","vocab":{"a":0,"b":1,"ab":2,"<unk>":3," ":4},"merges":["a b"]})";

Result<std::shared_ptr<const Tokenizer>> Parse(const std::string& members,
                                               const std::vector<std::string>& configs = {}) {
  return ParseTokenizerJson("{" + members + "}", "dir/tokenizer.json", configs);
}

TEST(TokenizerJson, RefusesByNameWhatItDoesNotKnow) {
  struct Case {
    std::string members, error;
    ErrorCode code = ErrorCode::kUnsupported;
  };
  const auto with = [](const char* members) { return fmt::format("{},{}", kModel, members); };
  const Case cases[] = {
      {with(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]})"),
       "dir/tokenizer.json: normalizer.normalizers[1]: is a normalizer of type Nmt, which is not supported yet"},
      {with(R"("pre_tokenizer":{"type":"UnicodeScripts"})"),
       "dir/tokenizer.json: pre_tokenizer: is a pre_tokenizer of type UnicodeScripts, which is not supported yet"},
      {with(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"a{9999}"},"behavior":"Isolated"})"),
       "pre_tokenizer.pattern: the regular expression \"a{9999}\" has a { that is no quantifier of at most 1000 at "
       "byte 1"},
      {with(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways"})"),
       "pre_tokenizer: \"behavior\" is \"Sideways\"", ErrorCode::kCorrupt},
      {with(R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]})"),
       "pre_tokenizer.pretokenizers[1]: is a pre_tokenizer (Digits) behind ByteLevel"},
      {with(R"("post_processor":{"type":"Whatever"})"), "post_processor: is a post_processor of type Whatever"},
      {with(R"("decoder":{"type":"CTC"})"), "decoder: is a decoder of type CTC, which is not supported yet"},
      {R"("model":{"type":"WordPiece","vocab":{},"merges":[]})",
       "model.type: is WordPiece, which is not supported yet"},
      {R"("model":{"type":"BPE","dropout":0.1,"vocab":{"a":0},"merges":[]})", "model.dropout: is not 0"},
      {R"("model":{"type":"BPE","vocab":{"a":0},"merges":["a b c"]})", "model.merges[0]: is \"a b c\", not two pieces",
       ErrorCode::kCorrupt},
      {R"("model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})", "model.vocab: gives \"a\" and \"b\" the id 0",
       ErrorCode::kCorrupt},
      {R"("model":{"type":"BPE","vocab":{"a":16777216},"merges":[]})", "model.vocab: gives \"a\" the id 16777216",
       ErrorCode::kCorrupt},
      {R"("model":{"type":"Unigram","vocab":[["a",-1],["b"]],"unk_id":0})",
       "model.vocab[1]: is not a piece and its score", ErrorCode::kCorrupt},
      {R"("model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":7})", "model.unk_id: is 7, beyond the vocabulary",
       ErrorCode::kCorrupt},
      {R"("version":"1.0")", "model: is missing: this is no tokenizer.json", ErrorCode::kCorrupt},
      {R"("model":[])", "line 1, column 10", ErrorCode::kCorrupt},
  };
  for (const Case& each : cases) {
    const auto tokenizer = Parse(each.members);
    ASSERT_FALSE(tokenizer) << each.members;
    EXPECT_THAT(tokenizer.error().ToString(), HasSubstr(each.error));
    EXPECT_EQ(tokenizer.error().code, each.code) << each.error;
  }
}

TEST(TokenizerJson, TextThatIsNotUtf8IsRefusedWithItsByte) {
  const auto tokenizer = Parse(kModel);
  ASSERT_TRUE(tokenizer) << tokenizer.error().ToString();
  const auto ids = (*tokenizer)->Encode("ab\xC3(");
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(ids.error().message, HasSubstr("is not UTF-8 at byte 2"));
}

TEST(TokenizerJson, SpecialIdsComeFromTheConfigThatNamesThemFirst) {
  const std::string members = std::string(kModel) + R"(,"added_tokens":[{"id":9,"content":"<s>","special":true}])";
  const auto tokenizer =
      Parse(members, {R"({"bos_token":{"content":"<s>"},"pad_token":null})", R"({"pad_token":"b","bos_token":"a"})"});
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ((*tokenizer)->special_ids().bos, 9u);
  EXPECT_EQ((*tokenizer)->special_ids().pad, 1u);
  EXPECT_EQ((*tokenizer)->special_ids().unk, 3u);
  EXPECT_EQ((*tokenizer)->special_ids().eos, std::nullopt);
  EXPECT_EQ((*tokenizer)->vocab_size(), 10u);
  EXPECT_EQ((*tokenizer)->piece(9), "<s>");
  EXPECT_EQ((*tokenizer)->piece(7), "");
  EXPECT_TRUE((*tokenizer)->is_special(9));
  EXPECT_FALSE((*tokenizer)->adds_bos());
}

TEST(TokenizerJson, AnIdWithoutATokenCannotBeDecoded) {
  const auto tokenizer = Parse(kModel);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ((*tokenizer)->Decode(Ids{2, 0}).value(), "ab a");  // no decoder: a space between
  const auto text = (*tokenizer)->Decode(Ids{2, 5});
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().message, HasSubstr("there is no token 5; ids are below 5"));
}

TEST(StreamDecoder, HoldsHalfACharacterBack) {
  const auto tokenizer = Parse(
      R"("decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
         "model":{"type":"BPE","vocab":{" ":0,"<0xF0>":1,"<0x9F>":2,"<0x98>":3,"<0x80>":4,"x":5},"merges":[]})");
  ASSERT_TRUE(tokenizer) << tokenizer.error().ToString();
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(0).value(), "");
  EXPECT_EQ(decoder.Push(0).value(), " ");
  EXPECT_EQ(decoder.Push(1).value(), "");
  EXPECT_EQ(decoder.Push(2).value(), "");
  EXPECT_EQ(decoder.Push(3).value(), "");
  EXPECT_EQ(decoder.Push(4).value(), "\xF0\x9F\x98\x80");
  EXPECT_EQ(decoder.Push(1).value(), "");
  EXPECT_EQ(decoder.Push(5).value(), "\xF0x");  // no byte can complete it now
  EXPECT_EQ(decoder.Push(1).value(), "");
  EXPECT_EQ(decoder.Finish(), "\xF0");
  EXPECT_EQ(decoder.Push(0).value(), "");  // a new text, stripped again
}

}  // namespace
}  // namespace sluice::tokenizer
