#include "tokenizer/char_class.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/uset.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>

namespace sluice::tokenizer {
namespace {

constexpr char32_t kNumCodePoints = 0x110000;
constexpr size_t kPageBits = 8, kPageSize = 1 << kPageBits;

// By ICU's number of the general category (UCharCategory).
constexpr std::string_view kCategoryNames[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Me", "Mc", "Nd",
                                               "Nl", "No", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "Pd",
                                               "Ps", "Pe", "Pc", "Po", "Sm", "Sc", "Sk", "So", "Pi", "Pf"};
static_assert(std::size(kCategoryNames) == U_CHAR_CATEGORY_COUNT);

struct Addition {
  char32_t first, last;
  const char* category;
};
// Assigned by Unicode 15.0 to 16.0 (by 15.1: kAdded15_1); where ICU knows a code point already, ICU's word counts.
constexpr Addition kAdditions[] = {
    {0x0897, 0x0897, "Mn"},   {0x0CF3, 0x0CF3, "Mc"},   {0x0ECE, 0x0ECE, "Mn"},   {0x1B4E, 0x1B4F, "Po"},
    {0x1B7F, 0x1B7F, "Po"},   {0x1C89, 0x1C89, "Lu"},   {0x1C8A, 0x1C8A, "Ll"},   {0x2427, 0x2429, "So"},
    {0x2FFC, 0x2FFF, "So"},   {0x31E4, 0x31E5, "So"},   {0x31EF, 0x31EF, "So"},   {0xA7CB, 0xA7CC, "Lu"},
    {0xA7CD, 0xA7CD, "Ll"},   {0xA7DA, 0xA7DA, "Lu"},   {0xA7DB, 0xA7DB, "Ll"},   {0xA7DC, 0xA7DC, "Lu"},
    {0x105C0, 0x105F3, "Lo"}, {0x10D40, 0x10D49, "Nd"}, {0x10D4A, 0x10D4D, "Lo"}, {0x10D4E, 0x10D4E, "Lm"},
    {0x10D4F, 0x10D4F, "Lo"}, {0x10D50, 0x10D65, "Lu"}, {0x10D69, 0x10D6D, "Mn"}, {0x10D6E, 0x10D6E, "Pd"},
    {0x10D6F, 0x10D6F, "Lm"}, {0x10D70, 0x10D85, "Ll"}, {0x10D8E, 0x10D8F, "Sm"}, {0x10EC2, 0x10EC4, "Lo"},
    {0x10EFC, 0x10EFF, "Mn"}, {0x1123F, 0x11240, "Lo"}, {0x11241, 0x11241, "Mn"}, {0x11380, 0x11389, "Lo"},
    {0x1138B, 0x1138B, "Lo"}, {0x1138E, 0x1138E, "Lo"}, {0x11390, 0x113B5, "Lo"}, {0x113B7, 0x113B7, "Lo"},
    {0x113B8, 0x113BA, "Mc"}, {0x113BB, 0x113C0, "Mn"}, {0x113C2, 0x113C2, "Mc"}, {0x113C5, 0x113C5, "Mc"},
    {0x113C7, 0x113CA, "Mc"}, {0x113CC, 0x113CD, "Mc"}, {0x113CE, 0x113CE, "Mn"}, {0x113CF, 0x113CF, "Mc"},
    {0x113D0, 0x113D0, "Mn"}, {0x113D1, 0x113D1, "Lo"}, {0x113D2, 0x113D2, "Mn"}, {0x113D3, 0x113D3, "Lo"},
    {0x113D4, 0x113D5, "Po"}, {0x113D7, 0x113D8, "Po"}, {0x113E1, 0x113E2, "Mn"}, {0x116D0, 0x116E3, "Nd"},
    {0x1171E, 0x1171E, "Mc"}, {0x11B00, 0x11B09, "Po"}, {0x11BC0, 0x11BE0, "Lo"}, {0x11BE1, 0x11BE1, "Po"},
    {0x11BF0, 0x11BF9, "Nd"}, {0x11F00, 0x11F01, "Mn"}, {0x11F02, 0x11F02, "Lo"}, {0x11F03, 0x11F03, "Mc"},
    {0x11F04, 0x11F10, "Lo"}, {0x11F12, 0x11F33, "Lo"}, {0x11F34, 0x11F35, "Mc"}, {0x11F36, 0x11F3A, "Mn"},
    {0x11F3E, 0x11F3F, "Mc"}, {0x11F40, 0x11F40, "Mn"}, {0x11F41, 0x11F41, "Mc"}, {0x11F42, 0x11F42, "Mn"},
    {0x11F43, 0x11F4F, "Po"}, {0x11F50, 0x11F59, "Nd"}, {0x11F5A, 0x11F5A, "Mn"}, {0x1342F, 0x1342F, "Lo"},
    {0x13439, 0x1343F, "Cf"}, {0x13440, 0x13440, "Mn"}, {0x13441, 0x13446, "Lo"}, {0x13447, 0x13455, "Mn"},
    {0x13460, 0x143FA, "Lo"}, {0x16100, 0x1611D, "Lo"}, {0x1611E, 0x16129, "Mn"}, {0x1612A, 0x1612C, "Mc"},
    {0x1612D, 0x1612F, "Mn"}, {0x16130, 0x16139, "Nd"}, {0x16D40, 0x16D42, "Lm"}, {0x16D43, 0x16D6A, "Lo"},
    {0x16D6B, 0x16D6C, "Lm"}, {0x16D6D, 0x16D6F, "Po"}, {0x16D70, 0x16D79, "Nd"}, {0x18CFF, 0x18CFF, "Lo"},
    {0x1B132, 0x1B132, "Lo"}, {0x1B155, 0x1B155, "Lo"}, {0x1CC00, 0x1CCEF, "So"}, {0x1CCF0, 0x1CCF9, "Nd"},
    {0x1CD00, 0x1CEB3, "So"}, {0x1D2C0, 0x1D2D3, "No"}, {0x1DF25, 0x1DF2A, "Ll"}, {0x1E030, 0x1E06D, "Lm"},
    {0x1E08F, 0x1E08F, "Mn"}, {0x1E4D0, 0x1E4EA, "Lo"}, {0x1E4EB, 0x1E4EB, "Lm"}, {0x1E4EC, 0x1E4EF, "Mn"},
    {0x1E4F0, 0x1E4F9, "Nd"}, {0x1E5D0, 0x1E5ED, "Lo"}, {0x1E5EE, 0x1E5EF, "Mn"}, {0x1E5F0, 0x1E5F0, "Lo"},
    {0x1E5F1, 0x1E5FA, "Nd"}, {0x1E5FF, 0x1E5FF, "Po"}, {0x1F6DC, 0x1F6DC, "So"}, {0x1F774, 0x1F776, "So"},
    {0x1F77B, 0x1F77F, "So"}, {0x1F7D9, 0x1F7D9, "So"}, {0x1F8B2, 0x1F8BB, "So"}, {0x1F8C0, 0x1F8C1, "So"},
    {0x1FA75, 0x1FA77, "So"}, {0x1FA87, 0x1FA89, "So"}, {0x1FA8F, 0x1FA8F, "So"}, {0x1FAAD, 0x1FAAF, "So"},
    {0x1FABB, 0x1FABF, "So"}, {0x1FAC6, 0x1FAC6, "So"}, {0x1FACE, 0x1FACF, "So"}, {0x1FADA, 0x1FADC, "So"},
    {0x1FADF, 0x1FADF, "So"}, {0x1FAE8, 0x1FAE9, "So"}, {0x1FAF7, 0x1FAF8, "So"}, {0x1FBCB, 0x1FBEF, "So"},
    {0x2B739, 0x2B739, "Lo"}, {0x2EBF0, 0x2EE5D, "Lo"}, {0x31350, 0x323AF, "Lo"},
};

constexpr std::pair<char32_t, char32_t> kAdded15_1[] = {{0x2FFC, 0x2FFF}, {0x31EF, 0x31EF}, {0x2EBF0, 0x2EE5D}};

bool IsOf15_1(char32_t c) {
  return std::any_of(std::begin(kAdded15_1), std::end(kAdded15_1),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

// Circled and squared letters (Other_Alphabetic beside the marks), and what else \w takes: of Oniguruma the
// superscripts and fractions of Latin-1, of Rust the joiners.
constexpr std::pair<char32_t, char32_t> kOtherAlphabetic[] = {
    {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
constexpr std::pair<char32_t, char32_t> kOtherOniguruma[] = {{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}};
constexpr std::pair<char32_t, char32_t> kOtherRust[] = {{0x200C, 0x200D}};

uint8_t CategoryNumber(std::string_view name) {
  return static_cast<uint8_t>(std::find(std::begin(kCategoryNames), std::end(kCategoryNames), name) -
                              std::begin(kCategoryNames));
}

// Pages of 256 code points, equal ones kept once: about 100 KiB.
class AttributeTable {
 public:
  explicit AttributeTable(UnicodeVersion version) {
    std::vector<uint8_t> flat(kNumCodePoints, 0);
    u_enumCharTypes(
        [](const void* context, UChar32 start, UChar32 limit, UCharCategory type) -> UBool {
          auto* bytes = static_cast<uint8_t*>(const_cast<void*>(context));
          std::fill(bytes + start, bytes + limit, static_cast<uint8_t>(type));
          return true;
        },
        flat.data());
    for (const Addition& added : kAdditions) {
      for (char32_t c = added.first; c <= added.last; ++c) {
        if (flat[c] == 0 && (version == UnicodeVersion::k16 || IsOf15_1(c))) flat[c] = CategoryNumber(added.category);
      }
    }
    for (uint8_t& value : flat) {
      const std::string_view name = kCategoryNames[value];
      if (name[0] == 'L' || name[0] == 'M' || name == "Nd" || name == "Nl" || name == "Pc")
        value |= kWordBit | kRustWordBit;
    }
    const auto add = [&](auto& ranges, uint8_t bits) {
      for (const auto& [first, last] : ranges) {
        for (char32_t c = first; c <= last; ++c) flat[c] |= bits;
      }
    };
    add(kOtherAlphabetic, kWordBit | kRustWordBit);
    add(kOtherOniguruma, kWordBit);
    add(kOtherRust, kRustWordBit);
    for (char32_t c = 0; c <= 0x3000; ++c) {
      if (u_isUWhiteSpace(static_cast<UChar32>(c))) flat[c] |= kSpaceBit;
    }
    for (size_t page = 0; page < pages_.size(); ++page) {
      const auto begin = flat.begin() + static_cast<ptrdiff_t>(page * kPageSize);
      size_t same = 0;
      while (same < values_.size() &&
             !std::equal(begin, begin + kPageSize, values_.begin() + static_cast<ptrdiff_t>(same))) {
        same += kPageSize;
      }
      if (same == values_.size()) values_.insert(values_.end(), begin, begin + kPageSize);
      pages_[page] = static_cast<uint32_t>(same);
    }
  }
  uint8_t operator[](char32_t c) const {
    return c < kNumCodePoints ? values_[pages_[c >> kPageBits] + (c & (kPageSize - 1))] : 0;
  }

 private:
  std::array<uint32_t, kNumCodePoints / kPageSize> pages_;
  std::vector<uint8_t> values_;
};

const AttributeTable& Attributes(UnicodeVersion version = UnicodeVersion::k16) {
  static const AttributeTable newest(UnicodeVersion::k16);
  if (version == UnicodeVersion::k16) return newest;
  static const AttributeTable older(UnicodeVersion::k15_1);
  return older;
}

using OwnedSet = std::unique_ptr<USet, decltype(&uset_close)>;

template <class Function>
void ForEachRange(const USet* set, Function function) {
  const int32_t count = uset_getRangeCount(set);
  for (int32_t i = 0; i < count; ++i) {
    UChar32 first, last;
    UErrorCode error = U_ZERO_ERROR;
    if (uset_getItem(set, i, &first, &last, nullptr, 0, &error) == 0 && U_SUCCESS(error)) {
      function(static_cast<char32_t>(first), static_cast<char32_t>(last));
    }
  }
}

}  // namespace

uint8_t CharAttributes(char32_t c, UnicodeVersion version) { return Attributes(version)[c]; }

char MajorCategory(char32_t c) { return kCategoryNames[Attributes()[c] & kCategoryMask][0]; }

void CharClass::AddAttributes(uint8_t bit, bool negated) {
  for (size_t value = 0; value < 256; ++value) {
    if (((value & bit) != 0) != negated) attributes_[value >> 6] |= uint64_t{1} << (value & 63);
  }
}

bool CharClass::AddProperty(std::string_view name, bool negated) {
  bool found = false;
  for (size_t value = 0; value < 256; ++value) {
    const size_t category = value & kCategoryMask;
    if (category >= std::size(kCategoryNames)) continue;
    const std::string_view its = kCategoryNames[category];
    const bool in = name == its || (name.size() == 1 && name[0] == its[0]);
    found |= in;
    if (in != negated) attributes_[value >> 6] |= uint64_t{1} << (value & 63);
  }
  if (found) return true;
  if (negated) attributes_ = {};
  constexpr std::string_view kScript = "script=";
  if (name.starts_with(kScript)) name.remove_prefix(kScript.size());
  UErrorCode error = U_ZERO_ERROR;
  UScriptCode script = USCRIPT_INVALID_CODE;
  const std::string text(name);
  if (uscript_getCode(text.c_str(), &script, 1, &error) != 1 || U_FAILURE(error)) return false;
  const OwnedSet set(uset_openEmpty(), uset_close);
  uset_applyIntPropertyValue(set.get(), UCHAR_SCRIPT, script, &error);
  if (U_FAILURE(error)) return false;
  if (script == USCRIPT_HAN) uset_addRange(set.get(), 0x2EBF0, 0x2EE5D);  // Unicode 15.1
  if (negated) uset_complement(set.get());
  ForEachRange(set.get(), [this](char32_t first, char32_t last) { AddRange(first, last); });
  return true;
}

void CharClass::CloseOverCase() {
  const OwnedSet set(uset_openEmpty(), uset_close);
  for (const auto& [first, last] : ranges_) {
    uset_addRange(set.get(), static_cast<UChar32>(first), static_cast<UChar32>(last));
  }
  uset_closeOver(set.get(), USET_CASE_INSENSITIVE);
  uset_removeAllStrings(set.get());
  ranges_.clear();
  ForEachRange(set.get(), [this](char32_t first, char32_t last) { AddRange(first, last); });
}

void CharClass::Finish() {
  std::sort(ranges_.begin(), ranges_.end());
  size_t kept = 0;
  for (const auto& range : ranges_) {
    if (kept > 0 && range.first <= ranges_[kept - 1].second + 1) {
      ranges_[kept - 1].second = std::max(ranges_[kept - 1].second, range.second);
    } else {
      ranges_[kept++] = range;
    }
  }
  ranges_.resize(kept);
  ascii_ = {};
  for (char32_t c = 0; c < 128; ++c) {
    if (ContainsAbove(c)) ascii_[c >> 6] |= uint64_t{1} << (c & 63);
  }
  any_above_127_ = negated_ || has_properties() || (!ranges_.empty() && ranges_.back().second > 127);
}

bool CharClass::ContainsAbove(char32_t c) const {
  const uint8_t attributes = Attributes(version_)[c];
  bool in = (attributes_[attributes >> 6] >> (attributes & 63) & 1) != 0;
  if (!in && !ranges_.empty()) {
    const auto above = std::upper_bound(ranges_.begin(), ranges_.end(), c,
                                        [](char32_t value, const auto& range) { return value < range.first; });
    in = above != ranges_.begin() && c <= std::prev(above)->second;
  }
  return in != negated_;
}

}  // namespace sluice::tokenizer
