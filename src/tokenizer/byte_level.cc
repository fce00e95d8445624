#include "tokenizer/byte_level.h"

#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr bool PrintsInLatin1(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kNumMoved = 68;

// Byte to code point and back (-1: none).
struct Tables {
  std::array<std::string, 256> characters;
  std::array<int16_t, 256 + kNumMoved> bytes;

  Tables() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t c = PrintsInLatin1(byte) ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(c, &characters[static_cast<size_t>(byte)]);
      bytes[c] = static_cast<int16_t>(byte);
    }
  }
};

const Tables& GetTables() {
  static const Tables tables;
  return tables;
}

}  // namespace

const std::array<std::string, 256>& ByteLevelCharacters() { return GetTables().characters; }

void AppendByteLevel(std::string_view bytes, std::string* out) {
  const auto& characters = ByteLevelCharacters();
  for (const char byte : bytes) *out += characters[static_cast<uint8_t>(byte)];
}

std::optional<std::string> FromByteLevel(std::string_view text) {
  const Tables& tables = GetTables();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = CodePointAt(text, at);
    if (c.value >= tables.bytes.size() || tables.bytes[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(tables.bytes[c.value]));
    at += c.size_bytes;
  }
  return bytes;
}

}  // namespace sluice::tokenizer
