#include "tokenizer/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;
using Ids = std::vector<uint32_t>;

// Random merges over a small alphabet.
struct Example {
  std::shared_ptr<Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  std::vector<std::pair<std::string, std::string>> owned;
  Merges merges;

  Example(std::string_view letters, size_t num_merges, uint32_t seed) {
    std::vector<std::string> pieces;
    const auto add = [&](const std::string& piece) {
      if (vocabulary->Set(vocabulary->size(), piece)) pieces.push_back(piece);
    };
    for (const char letter : letters) add(std::string(1, letter));
    std::mt19937 random(seed);
    owned.reserve(num_merges);
    while (owned.size() < num_merges) {
      const std::string left = pieces[random() % pieces.size()], right = pieces[random() % pieces.size()];
      if (left.size() + right.size() > 12) continue;
      add(left + right);
      owned.emplace_back(left, right);
    }
    for (const auto& [left, right] : owned) merges.emplace_back(left, right);
  }
};

// The definition: the merge that comes first in the list, leftmost first, until there is none.
Ids Reference(const Example& example, std::string_view word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < example.owned.size(); ++i) ranks[example.owned[i]] = i;  // the last of equal ones
  while (true) {
    size_t best = SIZE_MAX, at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == SIZE_MAX) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) ids.push_back(*example.vocabulary->Find(symbol));
  return ids;
}

Ids Encode(const BpeModel& model, std::string_view word) {
  Ids ids;
  const auto scratch = model.NewScratch();
  EXPECT_TRUE(model.Encode(word, scratch.get(), &ids));
  return ids;
}

TEST(Bpe, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(5);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Example example("abcd", 60, seed);
    const auto model = BpeModel::Make(example.vocabulary, example.merges, {});
    ASSERT_TRUE(model);
    for (const size_t size : {1, 2, 3, 10, 95, 96, 97, 98, 300}) {  // a heap takes over above 96
      std::string word;
      while (word.size() < size) word.push_back("abcd"[random() % 4]);
      EXPECT_EQ(Encode(**model, word), Reference(example, word)) << word;
    }
  }
}

TEST(Bpe, AMillionLettersInOneWordTakeNoQuadraticTime) {
  const Example example("ab", 50, 3);
  const auto model = BpeModel::Make(example.vocabulary, example.merges, {});
  ASSERT_TRUE(model);
  const Ids ids = Encode(**model, std::string(1 << 20, 'a'));
  EXPECT_GT(ids.size(), 0u);
  EXPECT_LE(ids.size(), size_t{1} << 20);
}

TEST(Bpe, AMergeOfWhatIsNoPieceIsNamed) {
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->Set(0, "a");
  vocabulary->Set(1, "b");
  const auto model = BpeModel::Make(vocabulary, {{"a", "b"}}, {});
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(model.error().message,
              HasSubstr("merge 0 makes \"ab\" of \"a\" and \"b\", but \"ab\" is not in the vocabulary"));
}

TEST(Bpe, UnknownCharactersBecomeBytesOrTheUnknownTokenOrNothing) {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const char* piece : {"a", "<unk>", "<0xC3>", "<0xA9>"}) vocabulary->Set(vocabulary->size(), piece);
  const auto make = [&](BpeOptions options) { return std::move(*BpeModel::Make(vocabulary, {}, std::move(options))); };
  EXPECT_EQ(Encode(*make({}), "aéxa"), (Ids{0, 0}));
  EXPECT_EQ(Encode(*make({.unk_token = "<unk>"}), "aéxa"), (Ids{0, 1, 1, 0}));
  EXPECT_EQ(Encode(*make({.fuse_unk = true, .unk_token = "<unk>"}), "aéxa"), (Ids{0, 1, 0}));
  EXPECT_EQ(Encode(*make({.byte_fallback = true, .unk_token = "<unk>"}), "aéxa"), (Ids{0, 2, 3, 1, 0}));

  Ids ids;
  const auto missing = make({.unk_token = "[UNK]"});
  const auto result = missing->Encode("x", missing->NewScratch().get(), &ids);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("\"[UNK]\", which is not in the vocabulary"));
}

// llama.cpp lets what is no token take part in merges, and gives out the bytes of it that are tokens.
TEST(Bpe, KeepUnknownIsLlamaCppsWay) {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const char* piece : {"a", "b", "abc"}) vocabulary->Set(vocabulary->size(), piece);
  const Merges merges = {{"b", "c"}, {"a", "bc"}};
  const auto model = BpeModel::Make(vocabulary, merges, {.byte_level = true, .keep_unknown = true});
  ASSERT_TRUE(model);
  EXPECT_EQ(Encode(**model, "abc"), (Ids{2}));
  EXPECT_EQ(Encode(**model, "bca"), (Ids{1, 0}));  // "bc" is no token, and neither is "c"
}

}  // namespace
}  // namespace sluice::tokenizer
