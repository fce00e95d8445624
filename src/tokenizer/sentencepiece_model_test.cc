#include "tokenizer/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/byte_source.h"

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;
using Ids = std::vector<uint32_t>;

std::string Path(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR "/tests/goldens/inference/tokenizer/") + name;
}

class SentencePieceGolden : public testing::TestWithParam<std::string> {};

TEST_P(SentencePieceGolden, GivesTheIdsAndTextsOfSentencePiece) {
  const auto bytes = io::ReadWholeFile(Path("spm-" + GetParam() + ".model"));
  ASSERT_TRUE(bytes);
  const auto tokenizer = ParseSentencePieceModel(*bytes, "tokenizer.model", {});
  ASSERT_TRUE(tokenizer) << tokenizer.error().ToString();
  const auto goldens = nlohmann::json::parse(std::ifstream(Path("spm-" + GetParam() + ".json")));
  ASSERT_GT(goldens.size(), 200u);
  size_t decoded = 0;
  for (const auto& golden : goldens) {
    const std::string text = golden["text"];
    const auto ids = (*tokenizer)->Encode(text);
    ASSERT_TRUE(ids) << text;
    EXPECT_EQ(*ids, golden["ids"].get<Ids>()) << text;
    if (!golden.contains("decoded")) continue;
    EXPECT_EQ((*tokenizer)->Decode(*ids).value(), golden["decoded"].get<std::string>());
    ++decoded;
  }
  EXPECT_GT(decoded, 50u);
}

INSTANTIATE_TEST_SUITE_P(All, SentencePieceGolden, testing::Values("unigram", "bpe"));

TEST(SentencePieceModel, TheConfigSaysWhatStandsAroundAText) {
  const auto bytes = io::ReadWholeFile(Path("spm-bpe.model"));
  ASSERT_TRUE(bytes);
  const auto ids = [&](const std::vector<std::string>& configs) {
    const auto tokenizer = ParseSentencePieceModel(*bytes, "tokenizer.model", configs);
    EXPECT_TRUE(tokenizer);
    const auto encoded = (*tokenizer)->Encode("<s>", {.add_special = true, .parse_special = true});
    return encoded.value();
  };
  EXPECT_EQ(ids({}), (Ids{1, 1}));
  EXPECT_EQ(ids({R"({"add_bos_token":false,"add_eos_token":true})"}), (Ids{1, 2}));
}

TEST(SentencePieceModel, RefusesWhatIsNone) {
  const auto refused = [](std::string_view bytes) {
    const auto tokenizer = ParseSentencePieceModel(bytes, "dir/tokenizer.model", {});
    EXPECT_FALSE(tokenizer);
    return tokenizer ? std::string() : tokenizer.error().ToString();
  };
  EXPECT_THAT(refused("PK\x03\x04"), HasSubstr("dir/tokenizer.model: is no SentencePiece model: byte"));
  EXPECT_THAT(refused(""), HasSubstr("is no SentencePiece model"));
  // One piece "a" of type unknown, trainer_spec.model_type 3.
  EXPECT_THAT(refused(std::string_view("\x0A\x05\x0A\x01"
                                       "a\x18\x02\x12\x02\x18\x03",
                                       11)),
              HasSubstr("is a model of words, which is not supported yet; known are BPE and Unigram"));
  EXPECT_THAT(refused(std::string_view("\x0A\x05\x0A\x01"
                                       "a\x18\x02\x0A\x03\x0A\x01"
                                       "a",
                                       12)),
              HasSubstr("piece 1, \"a\", is there already"));
  // A map of characters whose trie is longer than itself.
  EXPECT_THAT(refused(std::string_view("\x0A\x05\x0A\x01"
                                       "a\x18\x02\x1A\x06\x12\x04\xFF\xFF\xFF\x7F",
                                       15)),
              HasSubstr("normalizer_spec: the precompiled map of characters is damaged"));
}

}  // namespace
}  // namespace sluice::tokenizer
