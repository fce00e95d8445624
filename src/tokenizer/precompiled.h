// SentencePiece's precompiled normalisation: a double-array trie (Darts) from texts to their replacements.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tokenizer/normalizer.h"

namespace sluice::tokenizer {

std::optional<std::string> FromBase64(std::string_view text);  // nullopt where it is not base64

// The map: the trie's size in bytes (u32), the trie (u32 units), then the replacements, each ended by a zero byte.
// Immutable; thread-safe.
class CharsMap {
 public:
  // kCorrupt where the parts do not fit together.
  static Result<CharsMap> Make(std::string bytes);
  // The longest entry that `text` begins with: its size and its replacement. Never reads beyond the map.
  struct Entry {
    size_t size_bytes;
    std::string_view replacement;
  };
  std::optional<Entry> LongestPrefix(std::string_view text) const;
  std::optional<Entry> ShortestPrefix(std::string_view text) const;
  bool empty() const { return num_units_ == 0; }

 private:
  uint32_t Unit(uint32_t index) const;
  template <class Function>
  void ForEachPrefix(std::string_view text, Function function) const;
  std::string bytes_;
  uint32_t num_units_ = 0;
};

// Hugging Face's Precompiled: the map applied to each grapheme cluster of up to 5 bytes as a whole, and else to each
// character.
Result<std::unique_ptr<const Normalizer>> MakePrecompiled(std::string charsmap);

}  // namespace sluice::tokenizer
