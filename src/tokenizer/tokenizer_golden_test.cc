// Ids that other implementations gave for the same files: llama.cpp's vocabularies, and small files of PyPI's
// tokenizers (tests/goldens/inference/tokenizer; tests/peers has more of both).
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/byte_source.h"
#include "tokenizer/open_tokenizer.h"
#include "tokenizer/tokenizer_json.h"

namespace sluice::tokenizer {
namespace {

using Ids = std::vector<uint32_t>;

std::string Path(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR "/tests/goldens/inference/tokenizer/") + name;
}

nlohmann::json ReadJson(const std::string& name) { return nlohmann::json::parse(std::ifstream(Path(name))); }

std::shared_ptr<const Tokenizer> Open(const std::string& path) {
  auto tokenizer = OpenTokenizerFile(path);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().ToString();
    return nullptr;
  }
  return *tokenizer;
}

// All ids one by one, as a program that generates would.
std::string Streamed(const std::shared_ptr<const Tokenizer>& tokenizer, const Ids& ids, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const uint32_t id : ids) {
    const auto part = decoder.Push(id);
    EXPECT_TRUE(part);
    text += *part;
  }
  return text + decoder.Finish();
}

class LlamaCppVocabulary : public testing::TestWithParam<std::string> {};

TEST_P(LlamaCppVocabulary, ItsOwnTestTextsGiveItsIds) {
  const auto tokenizer = Open(Path(GetParam()));
  ASSERT_NE(tokenizer, nullptr);
  const auto texts = io::ReadWholeFile(Path(GetParam() + ".inp"));
  ASSERT_TRUE(texts);
  std::ifstream answers(Path(GetParam() + ".out"));
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  size_t begin = 0, count = 0;
  for (bool more = true; more; ++count) {
    const size_t end = texts->find(kSeparator, begin);
    more = end != std::string::npos;
    const std::string text = texts->substr(begin, more ? end - begin : end);
    begin = end + kSeparator.size();
    std::string line;
    if (!std::getline(answers, line)) {  // the file's last text is empty and has no line
      EXPECT_FALSE(more);
      EXPECT_EQ(text, "");
      break;
    }
    Ids expected;
    std::istringstream numbers(line);
    for (uint32_t id; numbers >> id;) expected.push_back(id);
    const auto ids = tokenizer->Encode(text);
    ASSERT_TRUE(ids);
    EXPECT_EQ(*ids, expected) << text;
    EXPECT_EQ(tokenizer->Decode(*ids).value(), text);
    EXPECT_EQ(Streamed(tokenizer, *ids, false), text);
  }
  EXPECT_GT(count, 40u);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaCppVocabulary,
                         testing::Values("ggml-vocab-deepseek-coder.gguf", "ggml-vocab-gpt-2.gguf",
                                         "ggml-vocab-llama-spm.gguf"));

class LlamaCppSpecial : public testing::TestWithParam<std::string> {};

TEST_P(LlamaCppSpecial, SpecialTokensAreTextOrTokensAsAsked) {
  const auto tokenizer = Open(Path(GetParam()));
  ASSERT_NE(tokenizer, nullptr);
  size_t parsed = 0;
  for (const auto& golden : ReadJson(GetParam() + ".json")) {
    const std::string text = golden["text"];
    EXPECT_EQ(tokenizer->Encode(text).value(), golden["ids"].get<Ids>()) << text;
    const Ids special = golden.contains("special") ? golden["special"].get<Ids>() : golden["ids"].get<Ids>();
    EXPECT_EQ(tokenizer->Encode(text, {.add_special = true, .parse_special = true}).value(), special) << text;
    parsed += golden.contains("special");
  }
  EXPECT_GT(parsed, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaCppSpecial,
                         testing::Values("ggml-vocab-deepseek-coder.gguf", "ggml-vocab-llama-spm.gguf"));

class HuggingFaceFile : public testing::TestWithParam<std::string> {};

TEST_P(HuggingFaceFile, GivesTheIdsAndTextsOfTokenizers) {
  const auto text = io::ReadWholeFile(Path("hf-" + GetParam() + ".tokenizer.json"));
  ASSERT_TRUE(text);
  const auto tokenizer = ParseTokenizerJson(*text, "tokenizer.json", {});
  ASSERT_TRUE(tokenizer) << tokenizer.error().ToString();
  const auto goldens = ReadJson("hf-" + GetParam() + ".json");
  ASSERT_GT(goldens.size(), 100u);
  for (const auto& golden : goldens) {
    const std::string input = golden["text"];
    EXPECT_EQ((*tokenizer)->Encode(input).value(), golden["ids"].get<Ids>()) << input;
    const Ids special = golden["special"];
    EXPECT_EQ((*tokenizer)->Encode(input, {.add_special = true, .parse_special = true}).value(), special) << input;
    const std::string decoded = (*tokenizer)->Decode(special, true).value();
    if (golden.contains("decoded")) {
      EXPECT_EQ(decoded, golden["decoded"].get<std::string>());
    }
    EXPECT_EQ(Streamed(*tokenizer, special, true), decoded);
  }
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFaceFile, testing::Values("byte-level", "sentencepiece", "unigram", "added"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sluice::tokenizer
