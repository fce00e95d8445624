// TokenTexts: which token a server means by a text. Servers list tokens by what they look like, and several look alike:
// tokens of single bytes, of spaces, special ones. A text is taken for a token only where no other could look like it
// under any of the ways in which servers are known to write tokens; what it has is told as "the rest" otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sluice::verify::api_model {

class TokenTexts {
 public:
  // A way to write a token: its bytes as UTF-8; with what is no UTF-8 left out, or as U+FFFD; the vocabulary's piece;
  // alone, or behind another token (SentencePiece drops a space at the begin). Memory: about 16 bytes a way.
  // `rows`: of the model's vocabulary, where those are more than the tokenizer's tokens.
  static Result<TokenTexts> Of(const tokenizer::Tokenizer& tokenizer, uint64_t rows = 0);
  // By hand: each token may look like each of its texts.
  explicit TokenTexts(const std::vector<std::vector<std::string>>& texts_of_ids);

  uint32_t size() const { return size_; }  // the highest id and 1
  // The only token that may look so; nullopt: none, several, or a text that is empty or has U+FFFD in it.
  std::optional<uint32_t> Find(std::string_view text) const;
  bool MayLookLike(uint32_t id, std::string_view text) const;

 private:
  void Add(uint32_t id, std::string_view text);
  void Sort();

  // By hash, then id: 64 bits of SHA-256, so that nobody makes texts that meet.
  std::vector<std::pair<uint64_t, uint32_t>> ids_by_hash_;
  uint32_t size_ = 0;
};

}  // namespace sluice::verify::api_model
