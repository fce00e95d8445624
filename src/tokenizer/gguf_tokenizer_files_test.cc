#include "tokenizer/gguf_tokenizer_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/testing/tiny_models.h"
#include "io/byte_source.h"
#include "tokenizer/open_tokenizer.h"

namespace sluice::tokenizer {
namespace {

std::string Path(const std::string& name) {
  return std::string(SLUICE_SOURCE_DIR "/tests/goldens/inference/tokenizer/") + name;
}

class GgufTokenizerFiles : public testing::TestWithParam<std::string> {};

// The files make the tokenizer that the keys make: same ids with and without special tokens, same text back.
TEST_P(GgufTokenizerFiles, GiveTheIdsOfTheKeys) {
  const std::string gguf_path = Path(GetParam());
  const auto of_keys = OpenTokenizerFile(gguf_path);
  ASSERT_TRUE(of_keys) << of_keys.error().ToString();
  const auto gguf = formats::GgufFile::Open(*io::OpenFile(gguf_path));
  ASSERT_TRUE(gguf);
  const auto files = TokenizerFilesOf(**gguf);
  ASSERT_TRUE(files) << files.error().ToString();
  ASSERT_EQ(files->size(), 2u);
  const tests::TempDir dir;
  for (const checkpoint::SideFile& file : *files) {
    EXPECT_TRUE(file.path.empty());
    std::ofstream(dir / file.name, std::ios::binary) << file.bytes;
  }
  const auto of_files = OpenTokenizerFile(dir / files->front().name);
  ASSERT_TRUE(of_files) << of_files.error().ToString();
  EXPECT_EQ((*of_files)->adds_bos(), (*of_keys)->adds_bos());
  EXPECT_EQ((*of_files)->special_ids().bos, (*of_keys)->special_ids().bos);
  EXPECT_EQ((*of_files)->special_ids().eos, (*of_keys)->special_ids().eos);

  const auto texts = io::ReadWholeFile(Path(GetParam() + ".inp"));
  ASSERT_TRUE(texts);
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  size_t count = 0;
  for (size_t begin = 0, end; begin <= texts->size(); begin = end + kSeparator.size(), ++count) {
    end = std::min(texts->find(kSeparator, begin), texts->size());
    const std::string text = texts->substr(begin, end - begin);
    for (const bool special : {false, true}) {
      const auto expected = (*of_keys)->Encode(text, {.add_special = special, .parse_special = special});
      const auto ids = (*of_files)->Encode(text, {.add_special = special, .parse_special = special});
      ASSERT_TRUE(expected && ids);
      EXPECT_EQ(*ids, *expected) << text;
    }
    if (end == texts->size()) break;
  }
  EXPECT_GT(count, 30u);
}

INSTANTIATE_TEST_SUITE_P(Goldens, GgufTokenizerFiles,
                         testing::Values("ggml-vocab-deepseek-coder.gguf", "ggml-vocab-gpt-2.gguf",
                                         "ggml-vocab-llama-spm.gguf"),
                         [](const auto& info) {
                           std::string name = info.param.substr(0, info.param.find(".gguf"));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(GgufTokenizerFiles, AFileWithoutATokenizerHasNone) {
  const auto gguf = formats::GgufFile::Open(*io::OpenFile(SLUICE_SOURCE_DIR "/tests/goldens/gguf/qwen3.gguf"));
  ASSERT_TRUE(gguf);
  const auto files = TokenizerFilesOf(**gguf);
  ASSERT_TRUE(files) << files.error().ToString();
  EXPECT_TRUE(files->empty());
}

}  // namespace
}  // namespace sluice::tokenizer
