#include "tokenizer/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <utility>

#include "tokenizer/char_class.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

class NormalFormNormalizer final : public Normalizer {
 public:
  explicit NormalFormNormalizer(NormalForm form) : form_(form) {}
  Result<void> Run(std::string* text) const override {
    const bool ascii = std::none_of(text->begin(), text->end(), [](char c) { return static_cast<uint8_t>(c) >= 128; });
    if (ascii) return {};
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* normalizer = Get(&error);
    std::string normal;
    if (U_SUCCESS(error)) {
      icu::StringByteSink<std::string> sink(&normal);
      normalizer->normalizeUTF8(0, icu::StringPiece(text->data(), static_cast<int32_t>(text->size())), sink, nullptr,
                                error);
    }
    if (U_FAILURE(error)) {
      return Fail(ErrorCode::kUnsupported, std::string("ICU cannot normalise the text: ") + u_errorName(error));
    }
    *text = std::move(normal);
    return {};
  }

 private:
  const icu::Normalizer2* Get(UErrorCode* error) const {
    switch (form_) {
      case NormalForm::kNfc:
        return icu::Normalizer2::getNFCInstance(*error);
      case NormalForm::kNfd:
        return icu::Normalizer2::getNFDInstance(*error);
      case NormalForm::kNfkc:
        return icu::Normalizer2::getNFKCInstance(*error);
      default:
        return icu::Normalizer2::getNFKDInstance(*error);
    }
  }
  const NormalForm form_;
};

// Pairs that Unicode 16 added to the version that Debian's ICU has.
char32_t ToLower(char32_t c) {
  const auto lower = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
  if (lower != c) return lower;
  switch (c) {
    case 0x1C89:
    case 0xA7CC:
    case 0xA7DA:
      return c + 1;
    case 0xA7CB:
      return 0x264;
    case 0xA7DC:
      return 0x19B;
    default:
      return c >= 0x10D50 && c <= 0x10D65 ? c + 0x20 : c;
  }
}

// Each character by itself, as Rust's char::to_lowercase: no rule looks at its neighbours.
class Lowercase final : public Normalizer {
 public:
  Result<void> Run(std::string* text) const override {
    std::string lower;
    lower.reserve(text->size());
    for (size_t at = 0; at < text->size();) {
      const CodePoint c = CodePointAt(*text, at);
      at += c.size_bytes;
      if (c.value == 0x130) {
        lower += "i\xCC\x87";  // the only character whose lower case is two
      } else {
        AppendUtf8(ToLower(c.value), &lower);
      }
    }
    *text = std::move(lower);
    return {};
  }
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  Result<void> Run(std::string* text) const override {
    if (!text->empty()) text->insert(0, text_);
    return {};
  }

 private:
  const std::string text_;
};

class Replace final : public Normalizer {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Result<void> Run(std::string* text) const override {
    std::string replaced;
    size_t from = 0;
    Regex::Searcher searcher(pattern_, *text);
    while (true) {
      SLUICE_ASSIGN(const std::optional<Match> match, searcher.Next());
      if (!match) break;
      replaced.append(*text, from, match->begin - from);
      replaced += content_;
      from = match->end;
    }
    replaced.append(*text, from);
    *text = std::move(replaced);
    return {};
  }

 private:
  const Regex pattern_;
  const std::string content_;
};

class ReplaceText final : public Normalizer {
 public:
  ReplaceText(std::string text, std::string content) : text_(std::move(text)), content_(std::move(content)) {}
  Result<void> Run(std::string* text) const override {
    if (text->find(text_) == std::string::npos) return {};
    std::string replaced;
    AppendReplaced(*text, text_, content_, &replaced);
    *text = std::move(replaced);
    return {};
  }

 private:
  const std::string text_, content_;
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Result<void> Run(std::string* text) const override {
    size_t begin = 0, end = text->size();
    while (left_ && begin < end) {
      const CodePoint c = CodePointAt(*text, begin);
      if (!IsSpace(c.value)) break;
      begin += c.size_bytes;
    }
    while (right_ && end > begin) {
      const CodePoint c = CodePointBefore(*text, end);
      if (!IsSpace(c.value)) break;
      end -= c.size_bytes;
    }
    *text = text->substr(begin, end - begin);
    return {};
  }

 private:
  const bool left_, right_;
};

class StripAccents final : public Normalizer {
 public:
  Result<void> Run(std::string* text) const override {
    std::string kept;
    for (size_t at = 0; at < text->size();) {
      const CodePoint c = CodePointAt(*text, at);
      if (MajorCategory(c.value) != 'M') kept.append(*text, at, c.size_bytes);
      at += c.size_bytes;
    }
    *text = std::move(kept);
    return {};
  }
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const Normalizer>> parts) : parts_(std::move(parts)) {}
  Result<void> Run(std::string* text) const override {
    for (const auto& part : parts_) SLUICE_TRY(part->Run(text));
    return {};
  }

 private:
  const std::vector<std::unique_ptr<const Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<const Normalizer> MakeNormalForm(NormalForm form) {
  return std::make_unique<NormalFormNormalizer>(form);
}
std::unique_ptr<const Normalizer> MakeLowercase() { return std::make_unique<Lowercase>(); }
std::unique_ptr<const Normalizer> MakePrepend(std::string text) { return std::make_unique<Prepend>(std::move(text)); }
std::unique_ptr<const Normalizer> MakeReplace(Regex pattern, std::string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
std::unique_ptr<const Normalizer> MakeReplaceText(std::string text, std::string content) {
  return std::make_unique<ReplaceText>(std::move(text), std::move(content));
}
std::unique_ptr<const Normalizer> MakeStrip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
std::unique_ptr<const Normalizer> MakeStripAccents() { return std::make_unique<StripAccents>(); }
std::unique_ptr<const Normalizer> MakeSequence(std::vector<std::unique_ptr<const Normalizer>> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

}  // namespace sluice::tokenizer
