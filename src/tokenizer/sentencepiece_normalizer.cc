#include "tokenizer/sentencepiece_normalizer.h"

#include <utility>

#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

class SentencePieceNormalizer final : public Normalizer {
 public:
  explicit SentencePieceNormalizer(SentencePieceSpec spec) : spec_(std::move(spec)) {}

  Result<void> Run(std::string* text) const override {
    std::string_view rest = *text;
    std::string normal;
    while (spec_.remove_extra_whitespaces && !rest.empty()) {
      const auto [size, becomes] = Next(rest);
      if (becomes.size() != 1 || becomes[0] != ' ') break;
      rest.remove_prefix(size);
    }
    if (!rest.empty()) {
      normal.reserve(rest.size() + rest.size() / 4);
      if (spec_.add_dummy_prefix && !spec_.space_behind) AddSpace(&normal);
      bool behind_space = spec_.remove_extra_whitespaces;
      while (!rest.empty()) {
        auto [size, becomes] = Next(rest);
        while (behind_space && becomes.starts_with(' ')) becomes.remove_prefix(1);
        for (const char c : becomes) {
          if (c == ' ') {
            AddSpace(&normal);
          } else {
            normal.push_back(c);
          }
        }
        if (!becomes.empty()) behind_space = becomes.back() == ' ';
        if (!spec_.remove_extra_whitespaces) behind_space = false;
        rest.remove_prefix(size);
      }
      const std::string_view space = spec_.escape_whitespaces ? kMetaspace : std::string_view(" ", 1);
      while (spec_.remove_extra_whitespaces && normal.ends_with(space)) normal.resize(normal.size() - space.size());
      if (spec_.add_dummy_prefix && spec_.space_behind) AddSpace(&normal);
    }
    *text = std::move(normal);
    return {};
  }

 private:
  // How many bytes of `text` come next, and what becomes of them.
  std::pair<size_t, std::string_view> Next(std::string_view text) const {
    if (const auto size = spec_.user_defined.LongestPrefix(text)) return {*size, text.substr(0, *size)};
    if (const auto entry = spec_.map.LongestPrefix(text)) return {entry->size_bytes, entry->replacement};
    const size_t size = CodePointAt(text, 0).size_bytes;
    return {size, text.substr(0, size)};
  }
  void AddSpace(std::string* text) const {
    if (spec_.escape_whitespaces) {
      *text += kMetaspace;
    } else {
      text->push_back(' ');
    }
  }

  const SentencePieceSpec spec_;
};

}  // namespace

std::unique_ptr<const Normalizer> MakeSentencePieceNormalizer(SentencePieceSpec spec) {
  return std::make_unique<SentencePieceNormalizer>(std::move(spec));
}

}  // namespace sluice::tokenizer
