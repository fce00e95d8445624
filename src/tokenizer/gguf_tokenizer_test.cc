#include "tokenizer/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "io/memory_source.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/regex.h"

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;
using Ids = std::vector<uint32_t>;
using Strings = std::vector<std::string>;

// A GGUF of keys alone.
class Keys {
 public:
  Keys& Text(const std::string& key, const std::string& value) {
    Begin(key, 8);
    Add(value);
    return *this;
  }
  Keys& Bool(const std::string& key, bool value) {
    Begin(key, 7);
    body_.push_back(value ? 1 : 0);
    return *this;
  }
  Keys& Texts(const std::string& key, const Strings& values) {
    BeginArray(key, 8, values.size());
    for (const std::string& value : values) Add(value);
    return *this;
  }
  Keys& Integers(const std::string& key, const std::vector<int32_t>& values) {
    BeginArray(key, 5, values.size());
    for (const int32_t value : values) Number(value);
    return *this;
  }
  Keys& Floats(const std::string& key, const std::vector<float>& values) {
    BeginArray(key, 6, values.size());
    for (const float value : values) Number(value);
    return *this;
  }
  Result<std::shared_ptr<const Tokenizer>> Open() const {
    std::string bytes = "GGUF";
    const auto add = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
    add(uint32_t{3});
    add(uint64_t{0});
    add(count_);
    bytes += body_;
    const auto file = formats::GgufFile::Open(std::make_shared<io::MemorySource>("vocabulary.gguf", bytes));
    if (!file) return Fail(file.error());
    return OpenGgufTokenizer(**file);
  }

 private:
  template <class T>
  void Number(T value) {
    body_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Add(const std::string& text) {
    Number(uint64_t{text.size()});
    body_ += text;
  }
  void Begin(const std::string& key, uint32_t type) {
    Add("tokenizer.ggml." + key);
    Number(type);
    ++count_;
  }
  void BeginArray(const std::string& key, uint32_t type, size_t count) {
    Begin(key, 9);
    Number(type);
    Number(uint64_t{count});
  }
  std::string body_;
  uint64_t count_ = 0;
};

Keys Gpt2(const Strings& tokens = {"a", "b", "ab"}, const Strings& merges = {"a b"}) {
  Keys keys;
  keys.Text("model", "gpt2").Text("pre", "gpt-2").Texts("tokens", tokens).Texts("merges", merges);
  return keys;
}

std::string Refusal(const Keys& keys) {
  const auto tokenizer = keys.Open();
  EXPECT_FALSE(tokenizer);
  return tokenizer ? std::string() : tokenizer.error().ToString();
}

TEST(GgufTokenizer, RefusesByKeyWhatItDoesNotKnow) {
  EXPECT_THAT(Refusal(Keys()),
              HasSubstr("vocabulary.gguf: tokenizer.ggml.model: is missing: the file has no tokenizer"));
  EXPECT_THAT(Refusal(Keys().Text("model", "rwkv")),
              HasSubstr("tokenizer.ggml.model: is \"rwkv\", which is not supported yet"));
  EXPECT_THAT(Refusal(Keys().Text("model", "gpt2").Text("pre", "elvish").Texts("tokens", {"a"}).Texts("merges", {})),
              HasSubstr("tokenizer.ggml.pre: is \"elvish\", which is not supported yet"));
  EXPECT_THAT(Refusal(Keys().Text("model", "gpt2").Text("pre", "gpt-2").Texts("tokens", {"a"})),
              HasSubstr("tokenizer.ggml.merges: is missing"));
  EXPECT_THAT(Refusal(Keys().Text("model", "llama").Texts("tokens", {"a"})), HasSubstr("tokens: has no token <0x00>"));
}

TEST(GgufTokenizer, RefusesKeysThatContradictOneAnother) {
  EXPECT_THAT(Refusal(Gpt2({"a", "b", "a"})), HasSubstr("tokens: has the text \"a\" twice, as tokens 0 and 2"));
  EXPECT_THAT(Refusal(Gpt2({"a", "b"}, {"ab"})), HasSubstr("merges: has \"ab\" as its element 0, which is no pair"));
  EXPECT_THAT(Refusal(Gpt2().Integers("token_type", {1, 1})), HasSubstr("token_type: has 2 elements for 3 tokens"));
}

TEST(GgufTokenizer, TypesAndKeysSayWhatIsSpecialAndWhatIsAdded) {
  const auto tokenizer = Gpt2({"a", "b", "ab", "<bos>", "<x>"})
                             .Integers("token_type", {1, 1, 1, 3, 4})
                             .Integers("unused", {1})
                             .Bool("add_bos_token", true)
                             .Open();
  ASSERT_TRUE(tokenizer) << tokenizer.error().ToString();
  // Without a bos_token_id the default of llama.cpp, 11, is beyond this vocabulary.
  EXPECT_FALSE((*tokenizer)->special_ids().bos.has_value());
  EXPECT_FALSE((*tokenizer)->adds_bos());
  EXPECT_EQ((*tokenizer)->Encode("ab<bos><x>").value(), (Ids{2, 1, 4}));  // no tokens for "<", "o", ...: "b" is left
  EXPECT_EQ((*tokenizer)->Encode("ab<bos><x>", {.parse_special = true}).value(), (Ids{2, 3, 4}));
  EXPECT_EQ((*tokenizer)->Decode(Ids{2, 3, 4}).value(), "ab<bos><x>");
  EXPECT_EQ((*tokenizer)->Decode(Ids{2, 3, 4}, true).value(), "ab<x>");
}

TEST(GgufTokenizer, EveryRowOfTheTableCompilesAndIsTheOnlyOneOfItsNames) {
  std::set<std::string_view> names;
  for (const GgufPreTokenizer& row : GgufPreTokenizers()) {
    for (const std::string_view name : row.names) {
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_EQ(FindGgufPreTokenizer(name), &row);
    }
    for (const std::string_view pattern : row.patterns) {
      const auto regex = Regex::Compile(pattern);
      EXPECT_TRUE(regex) << regex.error().message;
    }
  }
  EXPECT_GT(names.size(), 50u);
}

}  // namespace
}  // namespace sluice::tokenizer
