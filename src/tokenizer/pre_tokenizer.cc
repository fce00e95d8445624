#include "tokenizer/pre_tokenizer.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "tokenizer/char_class.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

struct Span {
  size_t begin, end;
  bool found;
};

class Split final : public PreTokenizer {
 public:
  Split(SplitPattern pattern, SplitBehaviour behaviour) : pattern_(std::move(pattern)), behaviour_(behaviour) {}

  Result<void> Run(std::vector<Piece>* pieces, TextArena*) const override {
    std::vector<Piece> finer;
    finer.reserve(pieces->size());
    std::vector<Span> spans;
    for (const Piece& piece : *pieces) {
      spans.clear();
      SLUICE_TRY(FindAll(piece.text, &spans));
      if (behaviour_ == SplitBehaviour::kMergedWithNext) std::reverse(spans.begin(), spans.end());
      Join(&spans);
      if (behaviour_ == SplitBehaviour::kMergedWithNext) std::reverse(spans.begin(), spans.end());
      for (const Span& span : spans) {
        if (span.begin == span.end || (span.found && behaviour_ == SplitBehaviour::kRemoved)) continue;
        finer.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.begins_text && span.begin == 0});
      }
    }
    *pieces = std::move(finer);
    return {};
  }

 private:
  Result<void> FindAll(std::string_view text, std::vector<Span>* spans) const {
    size_t from = 0;
    const auto add = [&](size_t begin, size_t end) {
      if (from != begin) spans->push_back({from, begin, pattern_.invert});
      spans->push_back({begin, end, !pattern_.invert});
      from = end;
    };
    if (pattern_.regex) {
      Regex::Searcher searcher(*pattern_.regex, text);
      while (true) {
        SLUICE_ASSIGN(const std::optional<Match> match, searcher.Next());
        if (!match) break;
        add(match->begin, match->end);
      }
    } else {
      for (size_t at = 0; at < text.size();) {
        const CodePoint c = CodePointAt(text, at);
        const bool found = pattern_.character != nullptr ? pattern_.character(c.value) : c.value == pattern_.delimiter;
        if (found) add(at, at + c.size_bytes);
        at += c.size_bytes;
      }
    }
    if (from != text.size()) spans->push_back({from, text.size(), pattern_.invert});
    return {};
  }

  // Joins neighbours as the behaviour says. For kMergedWithNext the spans come last first.
  void Join(std::vector<Span>* spans) const {
    if (behaviour_ == SplitBehaviour::kRemoved || behaviour_ == SplitBehaviour::kIsolated) return;
    size_t kept = 0;
    bool before = false;
    for (const Span& span : *spans) {
      const bool join = behaviour_ == SplitBehaviour::kContiguous ? span.found == before : span.found && !before;
      before = span.found;
      if (join && kept > 0) {
        Span& last = (*spans)[kept - 1];
        last.begin = std::min(last.begin, span.begin);
        last.end = std::max(last.end, span.end);
      } else {
        (*spans)[kept++] = span;
      }
    }
    spans->resize(kept);
  }

  const SplitPattern pattern_;
  const SplitBehaviour behaviour_;
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme) {
    if (split) split_ = MakeSplit({.delimiter = CodePointAt(replacement_, 0).value}, SplitBehaviour::kMergedWithNext);
  }

  Result<void> Run(std::vector<Piece>* pieces, TextArena* arena) const override {
    for (Piece& piece : *pieces) {
      const bool begun = piece.text.starts_with(' ') || piece.text.starts_with(replacement_);
      const bool prepend =
          !begun && (scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && piece.begins_text));
      if (!prepend && piece.text.find(' ') == std::string_view::npos) continue;
      std::string& text = arena->emplace_back(prepend ? replacement_ : "");
      AppendReplaced(piece.text, " ", replacement_, &text);
      piece.text = text;
    }
    return split_ ? split_->Run(pieces, arena) : Result<void>();
  }

 private:
  const std::string replacement_;
  const PrependScheme scheme_;
  std::unique_ptr<const PreTokenizer> split_;
};

class PrefixSpace final : public PreTokenizer {
 public:
  Result<void> Run(std::vector<Piece>* pieces, TextArena* arena) const override {
    for (Piece& piece : *pieces) {
      if (piece.text.starts_with(' ')) continue;
      std::string& text = arena->emplace_back(" ");
      text += piece.text;
      piece.text = text;
    }
    return {};
  }
};

class Whitespace final : public PreTokenizer {
 public:
  Result<void> Run(std::vector<Piece>* pieces, TextArena*) const override {
    enum class Kind { kSpace, kWord, kOther };
    std::vector<Piece> finer;
    for (const Piece& piece : *pieces) {
      size_t begin = 0;
      Kind before = Kind::kSpace;
      const auto add = [&](size_t end) {
        if (before != Kind::kSpace)
          finer.push_back({piece.text.substr(begin, end - begin), piece.begins_text && begin == 0});
        begin = end;
      };
      for (size_t at = 0; at < piece.text.size();) {
        const CodePoint c = CodePointAt(piece.text, at);
        const Kind kind = IsRustWord(c.value) ? Kind::kWord : IsSpace(c.value) ? Kind::kSpace : Kind::kOther;
        if (kind != before) add(at);
        before = kind;
        at += c.size_bytes;
      }
      add(piece.text.size());
    }
    *pieces = std::move(finer);
    return {};
  }
};

}  // namespace

const char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::unique_ptr<const PreTokenizer> MakeSplit(SplitPattern pattern, SplitBehaviour behaviour) {
  return std::make_unique<Split>(std::move(pattern), behaviour);
}
std::unique_ptr<const PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}
std::unique_ptr<const PreTokenizer> MakeWhitespace() { return std::make_unique<Whitespace>(); }
std::unique_ptr<const PreTokenizer> MakePrefixSpace() { return std::make_unique<PrefixSpace>(); }

bool IsNumeric(char32_t c) { return MajorCategory(c) == 'N'; }

bool IsPunctuation(char32_t c) {
  if (c < 128)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  if (c == 0x166D || c == 0x111C9) return true;  // until Unicode 12 and 10
  if (MajorCategory(c) != 'P') return false;
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] > 0 && age[0] <= 8;
}

}  // namespace sluice::tokenizer
