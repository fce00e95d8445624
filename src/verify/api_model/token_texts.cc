#include "verify/api_model/token_texts.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/sha256.h"

namespace sluice::verify::api_model {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

uint64_t HashOf(std::string_view text) {
  const kernels::Hash256 hash = kernels::HashText(text);
  uint64_t word;
  std::memcpy(&word, hash.data(), sizeof(word));
  return word;
}

// Bytes of the character that begins at `at`; 0: none does.
size_t CharacterSize(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[at + i]); };
  const size_t size = byte(0) < 0x80   ? 1
                      : byte(0) < 0xc2 ? 0
                      : byte(0) < 0xe0 ? 2
                      : byte(0) < 0xf0 ? 3
                      : byte(0) < 0xf5 ? 4
                                       : 0;
  if (size == 0 || at + size > bytes.size()) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if (byte(0) == 0xe0 && byte(1) < 0xa0) return 0;  // too long a form
  if (byte(0) == 0xed && byte(1) > 0x9f) return 0;  // surrogates
  if (byte(0) == 0xf0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xf4 && byte(1) > 0x8f) return 0;
  return size;
}

std::string WithoutBrokenCharacters(std::string_view bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = CharacterSize(bytes, at);
    text += bytes.substr(at, size);
    at += std::max<size_t>(size, 1);
  }
  return text;
}

}  // namespace

TokenTexts::TokenTexts(const std::vector<std::vector<std::string>>& texts_of_ids) {
  for (const auto& texts : texts_of_ids) {
    for (const std::string& text : texts) Add(size_, text);
    ++size_;
  }
  Sort();
}

Result<TokenTexts> TokenTexts::Of(const tokenizer::Tokenizer& tokenizer, uint64_t rows) {
  TokenTexts texts({});
  texts.size_ = tokenizer.vocab_size();
  // Something plain to stand before a token.
  uint32_t plain = 0;
  while (plain < texts.size_ && (tokenizer.is_special(plain) || tokenizer.piece(plain) != "a")) ++plain;
  std::string before;
  if (plain < texts.size_) {
    SLUICE_ASSIGN(before, tokenizer.Decode({{plain}}));
  }
  for (uint32_t id = 0; id < texts.size_; ++id) {
    const std::string_view piece = tokenizer.piece(id);
    if (piece.empty()) continue;
    texts.Add(id, piece);
    if (auto alone = tokenizer.Decode({{id}})) texts.Add(id, *alone);
    if (before.empty()) continue;
    const uint32_t both[] = {plain, id};
    if (auto behind = tokenizer.Decode(both); behind && behind->starts_with(before)) {
      texts.Add(id, std::string_view(*behind).substr(before.size()));
    }
  }
  texts.size_ = static_cast<uint32_t>(std::max<uint64_t>(texts.size_, rows));
  texts.Sort();
  return texts;
}

// Broken bytes are written as one U+FFFD, several or none; Find takes no text with one for a token.
void TokenTexts::Add(uint32_t id, std::string_view text) {
  const std::string whole = WithoutBrokenCharacters(text);
  if (!whole.empty()) ids_by_hash_.emplace_back(HashOf(whole), id);
}

void TokenTexts::Sort() {
  std::ranges::sort(ids_by_hash_);
  const auto again = std::ranges::unique(ids_by_hash_);
  ids_by_hash_.erase(again.begin(), again.end());
  ids_by_hash_.shrink_to_fit();
}

std::optional<uint32_t> TokenTexts::Find(std::string_view text) const {
  if (text.empty() || text.find(kReplacement) != std::string_view::npos) return std::nullopt;
  const auto [begin, end] =
      std::ranges::equal_range(ids_by_hash_, HashOf(text), {}, &std::pair<uint64_t, uint32_t>::first);
  if (end - begin != 1) return std::nullopt;
  return begin->second;
}

bool TokenTexts::MayLookLike(uint32_t id, std::string_view text) const {
  if (id >= size_) return false;
  // Broken characters may look like anything, or like nothing.
  if (text.empty() || text.find(kReplacement) != std::string_view::npos) return true;
  return std::ranges::binary_search(ids_by_hash_, std::pair(HashOf(text), id));
}

}  // namespace sluice::verify::api_model
