#include "verify/behaviour/vocabulary_alignment.h"

#include <memory>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokenizer/tokenizer_json.h"

namespace sluice::verify::behaviour {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tokenizer::Tokenizer;
using Way = VocabularyAlignment::Way;

// Of pieces by id in GPT-2's alphabet (byte_level) or as SentencePiece writes them; those in <> are special.
std::shared_ptr<const Tokenizer> Make(const std::vector<std::string>& pieces, bool byte_level = true) {
  std::vector<std::string> vocab, added;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].empty()) continue;
    if (pieces[i].starts_with("<") && !pieces[i].starts_with("<0x")) {
      added.push_back(
          fmt::format(R"({{"id":{},"content":"{}","special":true,"single_word":false,"lstrip":false,"rstrip":false,)"
                      R"("normalized":false}})",
                      i, pieces[i]));
    }
    vocab.push_back(fmt::format(R"("{}":{})", pieces[i], i));
  }
  const char* decoder = byte_level ? R"({"type":"ByteLevel"})"
                                   : R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},)"
                                     R"("content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]})";
  const std::string text =
      fmt::format(R"({{"added_tokens":[{}],"decoder":{},"model":{{"type":"BPE","vocab":{{{}}},"merges":[]}}}})",
                  fmt::join(added, ","), decoder, fmt::join(vocab, ","));
  auto parsed = tokenizer::ParseTokenizerJson(text, "tokenizer.json", {});
  EXPECT_TRUE(parsed.has_value()) << parsed.error().ToString();
  return *parsed;
}

void ExpectPermutation(const std::vector<uint32_t>& order, uint64_t rows) {
  if (order.empty()) return;
  EXPECT_EQ(order.size(), rows);
  EXPECT_EQ(std::set<uint32_t>(order.begin(), order.end()).size(), rows);
  EXPECT_EQ(*std::ranges::max_element(order), rows - 1);
  const std::vector<uint32_t> inverse = InverseOrder(order);
  for (uint32_t id = 0; id < order.size(); ++id) EXPECT_EQ(inverse[order[id]], id);
}

TEST(VocabularyAlignmentTest, TheSameTokensStayAndSpecialOnesAreNotDrawn) {
  const auto a = Make({"a", "<s>", "b", "", "Ġc"});
  const auto aligned = AlignVocabularies(a.get(), 8, a.get(), 8);
  ASSERT_TRUE(aligned.has_value());
  EXPECT_EQ(aligned->way, Way::kSameTokens);
  EXPECT_EQ(aligned->shared, 8u) << "padding is alike";
  EXPECT_TRUE(aligned->order_a.empty() && aligned->order_b.empty());
  EXPECT_THAT(aligned->drawable, ElementsAre(0, 2, 4));
}

TEST(VocabularyAlignmentTest, MoreTokensOnOneSideAreItsOwn) {
  const auto a = Make({"a", "b", "c"}), b = Make({"a", "b", "c", "d"});
  // A has padding where B has a token: not the same.
  for (const uint64_t rows_a : {3u, 8u}) {
    const auto aligned = AlignVocabularies(a.get(), rows_a, b.get(), 8);
    ASSERT_TRUE(aligned.has_value());
    EXPECT_EQ(aligned->way, Way::kSameTokens);
    EXPECT_EQ(aligned->shared, 3u);
    EXPECT_THAT(aligned->drawable, ElementsAre(0, 1, 2));
  }
}

TEST(VocabularyAlignmentTest, AnotherNumberingIsMatchedByBytes) {
  const auto a = Make({"<s>", "a", "Ġb", "only", "é"}), b = Make({"▁b", "é", "<s>", "a", "mine"}, false);
  // "é" of GPT-2's alphabet is the byte 0xe9 alone; of SentencePiece the two bytes of the letter.
  const auto aligned = AlignVocabularies(a.get(), 6, b.get(), 7);
  ASSERT_TRUE(aligned.has_value());
  EXPECT_EQ(aligned->way, Way::kByBytes);
  EXPECT_EQ(aligned->shared, 3u);
  EXPECT_THAT(aligned->order_b, ElementsAre(2, 3, 0, 1, 4, 5, 6));
  EXPECT_EQ(aligned->IdInA(1), 1u);
  EXPECT_EQ(aligned->IdInB(1), 3u);
  EXPECT_THAT(aligned->drawable, ElementsAre(1, 2));
  ExpectPermutation(aligned->order_a, 6);
  ExpectPermutation(aligned->order_b, 7);
  // The other way about: as many.
  const auto back = AlignVocabularies(b.get(), 7, a.get(), 6);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->shared, 3u);
}

TEST(VocabularyAlignmentTest, WhatStandsForTheSameBytesIsMatchedBySpellingOnly) {
  // A letter and its byte token, in another order; then two spellings on one side and a third on the other.
  const auto a = Make({"A", "<0x41>", "x"}, false), b = Make({"x", "<0x41>", "A"}, false);
  const auto aligned = AlignVocabularies(a.get(), 3, b.get(), 3);
  ASSERT_TRUE(aligned.has_value());
  EXPECT_EQ(aligned->shared, 3u);
  EXPECT_THAT(aligned->order_b, ElementsAre(2, 1, 0));
  const auto c = Make({"y", "A"}), d = Make({"A", "<0x41>", "<0x42>", "y"}, false);
  const auto unequal = AlignVocabularies(c.get(), 2, d.get(), 4);
  ASSERT_TRUE(unequal.has_value());
  EXPECT_EQ(unequal->shared, 2u);
  EXPECT_EQ(unequal->IdInB(1), 0u) << "A by its spelling, not by the byte";
}

TEST(VocabularyAlignmentTest, WithoutTokenizersNumbersCountWhereTheyMay) {
  const auto a = Make({"a", "<s>", "b"});
  const auto none = AlignVocabularies(nullptr, 5, nullptr, 5);
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(none->way, Way::kByNumber);
  EXPECT_EQ(none->drawable.size(), 5u);
  EXPECT_THAT(none->note, HasSubstr("neither"));
  const auto one = AlignVocabularies(nullptr, 5, a.get(), 5);
  ASSERT_TRUE(one.has_value());
  EXPECT_THAT(one->drawable, ElementsAre(0, 2));
  EXPECT_THAT(one->note, HasSubstr("A has no tokenizer"));
  for (const auto& bad : {AlignVocabularies(nullptr, 5, nullptr, 6), AlignVocabularies(a.get(), 5, nullptr, 6)}) {
    ASSERT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(bad.error().message, HasSubstr("5 and 6"));
  }
}

TEST(VocabularyAlignmentTest, WrongTokenizersAreRefused) {
  const auto a = Make({"a", "b", "c"}), other = Make({"x", "y", "z"}), special = Make({"<a>", "<b>"});
  const auto beyond = AlignVocabularies(a.get(), 2, a.get(), 3);
  ASSERT_FALSE(beyond.has_value());
  EXPECT_THAT(beyond.error().message, HasSubstr("A: the tokenizer has a token 2"));
  for (const auto& bad :
       {AlignVocabularies(a.get(), 3, other.get(), 3), AlignVocabularies(special.get(), 2, special.get(), 2)}) {
    ASSERT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(bad.error().message, HasSubstr("no token in common"));
  }
}

TEST(VocabularyAlignmentTest, TheHashIsOfTheIdsOfBothSides) {
  const auto a = Make({"a", "b"}), b = Make({"b", "a"});
  const auto aligned = AlignVocabularies(a.get(), 2, b.get(), 2);
  ASSERT_TRUE(aligned.has_value());
  const std::vector<uint8_t> bytes = {0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(aligned->DrawableHash(), kernels::HashBytes(bytes));
}

}  // namespace
}  // namespace sluice::verify::behaviour
