// Base64 (RFC 4648, section 4): the standard alphabet, padded, without line breaks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::formats {

std::string EncodeBase64(std::span<const uint8_t> bytes);
inline std::string EncodeBase64(std::string_view text) {
  return EncodeBase64({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// Nothing where it is not exactly what EncodeBase64 gives of some bytes: another character, a padding that is missing
// or too much, bits in the last character that no byte takes.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace sluice::formats
