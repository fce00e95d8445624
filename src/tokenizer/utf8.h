// Code points in text that is known to be well-formed UTF-8 (Encode checks once, at the door).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::tokenizer {

// Bytes of the character that begins with `lead`; 1 for a byte that begins none.
inline size_t Utf8Length(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : byte < 0xF8 ? 4 : 1;
}

// The code point at text[at], and how many bytes it takes. A byte that begins no whole character is a code point of its
// own.
struct CodePoint {
  char32_t value;
  size_t size_bytes;
};
inline CodePoint CodePointAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[at + i])); };
  const size_t length = Utf8Length(text[at]);
  if (length > text.size() - at) return {byte(0), 1};
  switch (length) {
    case 2:
      return {(byte(0) & 0x1F) << 6 | (byte(1) & 0x3F), 2};
    case 3:
      return {(byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
    case 4:
      return {(byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
    default:
      return {byte(0), 1};
  }
}

// The code point that ends at text[end - 1]; end > 0.
inline CodePoint CodePointBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  const CodePoint found = CodePointAt(text, begin);
  return begin + found.size_bytes == end ? found : CodePointAt(text, end - 1);
}

inline void AppendUtf8(char32_t c, std::string* out) {
  const auto add = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xC0 | c >> 6);
    add(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    add(0xE0 | c >> 12);
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  } else {
    add(0xF0 | c >> 18);
    add(0x80 | (c >> 12 & 0x3F));
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  }
}

// How many bytes at the end of `text` begin a character that has not ended yet: 0 to 3.
inline size_t IncompleteUtf8Tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    return byte >= 0xC2 && byte < 0xF5 && Utf8Length(static_cast<char>(byte)) > back ? back : 0;
  }
  return 0;
}

}  // namespace sluice::tokenizer
