#include "tokenizer/precompiled.h"

#include <unicode/brkiter.h>
#include <unicode/unistr.h>
#include <unicode/utext.h>

#include <cstring>
#include <utility>

#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// Clusters of more bytes are taken apart into characters, as spm_precompiled does.
constexpr size_t kMaxClusterBytes = 5;

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(CharsMap map) : map_(std::move(map)) {}

  Result<void> Run(std::string* text) const override {
    UErrorCode error = U_ZERO_ERROR;
    UText* utext = utext_openUTF8(nullptr, text->data(), static_cast<int64_t>(text->size()), &error);
    const std::unique_ptr<icu::BreakIterator> clusters(
        U_FAILURE(error) ? nullptr : icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
    if (U_SUCCESS(error)) clusters->setText(utext, error);
    if (U_FAILURE(error)) {
      utext_close(utext);
      return Fail(ErrorCode::kUnsupported,
                  std::string("ICU cannot find the characters of the text: ") + u_errorName(error));
    }
    std::string normal;
    normal.reserve(text->size());
    auto begin = static_cast<size_t>(clusters->first());
    for (int32_t end = clusters->next(); end != icu::BreakIterator::DONE; end = clusters->next()) {
      Append(std::string_view(*text).substr(begin, static_cast<size_t>(end) - begin), &normal);
      begin = static_cast<size_t>(end);
    }
    utext_close(utext);
    *text = std::move(normal);
    return {};
  }

 private:
  void Append(std::string_view cluster, std::string* out) const {
    if (cluster.size() <= kMaxClusterBytes) {
      // spm_precompiled takes the shortest entry that a cluster begins with for the whole cluster.
      if (const auto entry = map_.ShortestPrefix(cluster)) {
        *out += entry->replacement;
        return;
      }
    }
    for (size_t at = 0; at < cluster.size();) {
      const size_t size = CodePointAt(cluster, at).size_bytes;
      const std::string_view character = cluster.substr(at, size);
      const auto entry = map_.ShortestPrefix(character);
      *out += entry ? entry->replacement : character;
      at += size;
    }
  }

  const CharsMap map_;
};

}  // namespace

std::optional<std::string> FromBase64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0, count = 0;
  for (const char c : text) {
    const int value = Base64Value(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count & 0xFF));
    }
  }
  if (count >= 6) return std::nullopt;
  return bytes;
}

Result<CharsMap> CharsMap::Make(std::string bytes) {
  CharsMap map;
  if (bytes.empty()) return map;
  uint32_t size = 0;
  if (bytes.size() >= sizeof(size)) std::memcpy(&size, bytes.data(), sizeof(size));
  if (bytes.size() < sizeof(size) || size % sizeof(uint32_t) != 0 || size > bytes.size() - sizeof(size) ||
      (bytes.size() > sizeof(size) + size && bytes.back() != '\0')) {
    return Fail(ErrorCode::kCorrupt, "the precompiled map of characters is damaged; fetch the file again");
  }
  map.num_units_ = size / sizeof(uint32_t);
  map.bytes_ = std::move(bytes);
  return map;
}

uint32_t CharsMap::Unit(uint32_t index) const {
  uint32_t unit = 0;
  std::memcpy(&unit, bytes_.data() + sizeof(uint32_t) * (size_t{index} + 1), sizeof(unit));
  return unit;
}

// Darts-clone's units: bit 31 a leaf, whose other bits are the value; bits 0-7 the label, bit 8 "has a leaf", bits
// 10-30 the offset, times 256 where bit 9 is set.
template <class Function>
void CharsMap::ForEachPrefix(std::string_view text, Function function) const {
  if (num_units_ == 0) return;
  const auto offset = [](uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); };
  uint32_t node = offset(Unit(0));
  for (size_t at = 0; at < text.size(); ++at) {
    node ^= static_cast<uint8_t>(text[at]);
    if (node >= num_units_) return;
    const uint32_t unit = Unit(node);
    if ((unit & (1u << 31 | 0xFF)) != static_cast<uint8_t>(text[at])) return;
    node ^= offset(unit);
    if ((unit >> 8 & 1) == 0) continue;
    if (node >= num_units_) return;
    const size_t value = Unit(node) & 0x7FFFFFFF;
    const size_t begin = sizeof(uint32_t) * (size_t{num_units_} + 1) + value;
    if (begin >= bytes_.size()) return;
    if (!function(Entry{at + 1, std::string_view(bytes_.c_str() + begin)})) return;
  }
}

std::optional<CharsMap::Entry> CharsMap::LongestPrefix(std::string_view text) const {
  std::optional<Entry> longest;
  ForEachPrefix(text, [&](const Entry& entry) {
    longest = entry;
    return true;
  });
  return longest;
}

std::optional<CharsMap::Entry> CharsMap::ShortestPrefix(std::string_view text) const {
  std::optional<Entry> shortest;
  ForEachPrefix(text, [&](const Entry& entry) {
    shortest = entry;
    return false;
  });
  return shortest;
}

Result<std::unique_ptr<const Normalizer>> MakePrecompiled(std::string charsmap) {
  SLUICE_ASSIGN(CharsMap map, CharsMap::Make(std::move(charsmap)));
  return std::make_unique<Precompiled>(std::move(map));
}

}  // namespace sluice::tokenizer
