// U+2581, the character that stands for a space in SentencePiece's vocabularies.
#pragma once

#include <string>
#include <string_view>

namespace sluice::tokenizer {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

// Appends `text` with `to` in place of each `from` (not empty).
inline void AppendReplaced(std::string_view text, std::string_view from, std::string_view to, std::string* out) {
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string_view::npos; at = found + from.size()) {
    *out += text.substr(at, found - at);
    *out += to;
  }
  *out += text.substr(at);
}

// Whether a U+2581 follows another character in `piece`.
inline bool MetaspaceInside(std::string_view piece) {
  for (size_t at = piece.find(kMetaspace, 1); at != std::string_view::npos; at = piece.find(kMetaspace, at + 1)) {
    if (at < kMetaspace.size() || piece.substr(at - kMetaspace.size(), kMetaspace.size()) != kMetaspace) return true;
  }
  return false;
}

// The end of the word that begins at text[begin]: the next U+2581 that follows another character.
inline size_t EndOfMetaspaceWord(std::string_view text, size_t begin) {
  size_t at = begin;
  while (text.substr(at).starts_with(kMetaspace)) at += kMetaspace.size();
  at = text.find(kMetaspace, at);
  return at == std::string_view::npos ? text.size() : at;
}

}  // namespace sluice::tokenizer
