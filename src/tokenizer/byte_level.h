// GPT-2's alphabet: each byte as a printable character, so that a vocabulary of bytes can be written as text.
// Bytes that print in Latin-1 (21-7E, A1-AC, AE-FF) stand for themselves, the other 68 for U+0100 onwards, in order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::tokenizer {

// The character of each byte, as UTF-8 (1 or 2 bytes).
const std::array<std::string, 256>& ByteLevelCharacters();

// Appends the characters of `bytes`.
void AppendByteLevel(std::string_view bytes, std::string* out);

// The bytes that `text` stands for; nullopt where a character is not of the alphabet.
std::optional<std::string> FromByteLevel(std::string_view text);

}  // namespace sluice::tokenizer
