// CharClass: a set of code points as a regular expression writes it, asked with one table look-up.
//
// Properties are those of Unicode 16, as Hugging Face's tokenizers (Oniguruma) know it, or of 15.1 as llama.cpp: ICU's
// general categories, and what Unicode 15.1 and 16 added to the version that Debian's ICU has.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::tokenizer {

enum class UnicodeVersion : uint8_t { k15_1, k16 };

// What properties say of a code point: its general category (5 bits, numbered as ICU does), kSpaceBit (White_Space) and
// kWordBit (Oniguruma's \w) and kRustWordBit (that of Rust's regex crate). Thread-safe.
uint8_t CharAttributes(char32_t c, UnicodeVersion version = UnicodeVersion::k16);
constexpr uint8_t kSpaceBit = 0x20, kWordBit = 0x40, kRustWordBit = 0x80, kCategoryMask = 0x1F;

inline bool IsSpace(char32_t c) { return (CharAttributes(c) & kSpaceBit) != 0; }
inline bool IsWord(char32_t c) { return (CharAttributes(c) & kWordBit) != 0; }
inline bool IsRustWord(char32_t c) { return (CharAttributes(c) & kRustWordBit) != 0; }
// The general category as its first letter, 'L', 'N', 'P', ...
char MajorCategory(char32_t c);

class CharClass {
 public:
  bool Contains(char32_t c) const {
    if (c < 128) return (ascii_[c >> 6] >> (c & 63) & 1) != 0;
    return ContainsAbove(c);
  }

  void AddRange(char32_t first, char32_t last) { ranges_.emplace_back(first, last); }
  void AddSpace(bool negated) { AddAttributes(kSpaceBit, negated); }
  void AddWord(bool negated) { AddAttributes(kWordBit, negated); }
  // "L", "Lu", "Han", "script=Han"; false where there is no such property.
  bool AddProperty(std::string_view name, bool negated);
  // What folds to the same as one of the ranges. To be called before Finish; properties do not take part.
  void CloseOverCase();
  // What code points are taken for. Before Finish.
  void SetVersion(UnicodeVersion version) { version_ = version; }
  void Negate() { negated_ = !negated_; }
  // Must follow the last change.
  void Finish();

  bool has_properties() const { return (attributes_[0] | attributes_[1] | attributes_[2] | attributes_[3]) != 0; }
  bool AnyAbove127() const { return any_above_127_; }

 private:
  void AddAttributes(uint8_t bit, bool negated);
  bool ContainsAbove(char32_t c) const;

  std::array<uint64_t, 2> ascii_ = {};       // of code points, when finished
  std::array<uint64_t, 4> attributes_ = {};  // of the values of CharAttributes
  std::vector<std::pair<char32_t, char32_t>> ranges_;
  UnicodeVersion version_ = UnicodeVersion::k16;
  bool negated_ = false, any_above_127_ = true;
};

}  // namespace sluice::tokenizer
