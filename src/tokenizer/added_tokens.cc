#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "tokenizer/char_class.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

bool IsAsciiSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

size_t SpacesAtEnd(std::string_view text) {  // where they begin
  size_t begin = text.size();
  while (begin > 0) {
    const CodePoint c = CodePointBefore(text, begin);
    if (!IsSpace(c.value)) break;
    begin -= c.size_bytes;
  }
  return begin;
}

size_t SpacesAtBegin(std::string_view text) {  // where they end
  size_t end = 0;
  while (end < text.size()) {
    const CodePoint c = CodePointAt(text, end);
    if (!IsSpace(c.value)) break;
    end += c.size_bytes;
  }
  return end;
}

}  // namespace

uint32_t TextFinder::Child(uint32_t node, char byte) const {
  uint32_t child = nodes_[node].child;
  while (child != kNone && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

void TextFinder::Add(std::string_view text, uint32_t value) {
  if (text.empty()) return;
  first_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char byte : text) {
    uint32_t child = Child(node, byte);
    if (child == kNone) {
      child = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({byte, kNone, nodes_[node].child, kNone});
      nodes_[node].child = child;
    }
    node = child;
  }
  if (nodes_[node].value == kNone) nodes_[node].value = value;
}

std::optional<TextFinder::Found> TextFinder::Find(std::string_view in, size_t from) const {
  for (size_t begin = from; begin < in.size(); ++begin) {
    if (const auto found = LongestAt(in, begin)) return found;
  }
  return std::nullopt;
}

std::optional<TextFinder::Found> TextFinder::LongestAt(std::string_view in, size_t begin) const {
  std::optional<Found> found;
  if (begin >= in.size() || !MayBegin(in[begin])) return found;
  uint32_t node = 0;
  for (size_t at = begin; at < in.size(); ++at) {
    node = Child(node, in[at]);
    if (node == kNone) break;
    if (nodes_[node].value != kNone) found = Found{begin, at + 1, nodes_[node].value};
  }
  return found;
}

std::optional<size_t> TextFinder::LongestPrefix(std::string_view in) const {
  const auto found = LongestAt(in, 0);
  return found ? std::optional(found->end) : std::nullopt;
}

void TextFinder::AllAt(std::string_view in, size_t at, std::vector<uint32_t>* values) const {
  uint32_t node = 0;
  for (; at < in.size(); ++at) {
    node = Child(node, in[at]);
    if (node == kNone) return;
    if (nodes_[node].value != kNone) values->push_back(nodes_[node].value);
  }
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, Way way) : tokens_(std::move(tokens)), way_(way) {
  if (way_ == Way::kLongestFirst) {
    std::stable_sort(tokens_.begin(), tokens_.end(),
                     [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (!tokens_[i].normalized) finders_[0].Add(tokens_[i].content, static_cast<uint32_t>(i));
  }
}

void AddedTokens::SetNormalizedContents(const std::vector<std::string>& contents) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].normalized) finders_[1].Add(contents[i], static_cast<uint32_t>(i));
  }
}

std::vector<Segment> AddedTokens::Split(std::string_view text, bool parse_special, bool normalized) const {
  std::vector<Segment> segments;
  const TextFinder& finder = finders_[normalized ? 1 : 0];
  if (text.empty()) return segments;
  if (finder.empty()) return {{text, std::nullopt}};
  if (way_ == Way::kLeftmost) {
    SplitLeftmost(text, parse_special, finder, &segments);
  } else {
    SplitLongestFirst(text, parse_special, &segments);
  }
  return segments;
}

void AddedTokens::SplitLeftmost(std::string_view text, bool parse_special, const TextFinder& finder,
                                std::vector<Segment>* segments) const {
  size_t from = 0, search = 0;  // what is behind `from` is not given out yet
  while (const auto found = finder.Find(text, search)) {
    search = found->end;
    const AddedToken& token = tokens_[found->value];
    if (token.special && !parse_special) continue;
    size_t begin = found->begin, end = found->end;
    if (token.single_word) {
      const bool before = begin > 0 && IsRustWord(CodePointBefore(text, begin).value);
      const bool behind = end < text.size() && IsRustWord(CodePointAt(text, end).value);
      if (before || behind) continue;
    }
    if (token.lstrip) begin = std::max(SpacesAtEnd(text.substr(0, begin)), from);
    if (token.rstrip) end += SpacesAtBegin(text.substr(end));
    if (from < begin) segments->push_back({text.substr(from, begin - from), std::nullopt});
    segments->push_back({text.substr(begin, end - begin), token.id});
    from = end;
  }
  if (from < text.size()) segments->push_back({text.substr(from), std::nullopt});
}

void AddedTokens::SplitLongestFirst(std::string_view text, bool parse_special, std::vector<Segment>* segments) const {
  // One look over the text tells which tokens are in it at all: mostly none.
  std::vector<uint32_t> present;
  for (size_t at = 0; at < text.size(); ++at) {
    if (finders_[0].MayBegin(text[at])) finders_[0].AllAt(text, at, &present);
    if (present.size() > 2 * tokens_.size()) {
      std::sort(present.begin(), present.end());
      present.erase(std::unique(present.begin(), present.end()), present.end());
    }
  }
  std::sort(present.begin(), present.end());
  present.erase(std::unique(present.begin(), present.end()), present.end());

  segments->push_back({text, std::nullopt});
  std::vector<Segment> finer;
  for (const uint32_t index : present) {
    const AddedToken& token = tokens_[index];
    if (token.special && !parse_special) continue;
    finer.clear();
    for (const Segment& segment : *segments) {
      if (segment.id) {
        finer.push_back(segment);
        continue;
      }
      std::string_view rest = segment.text;
      for (size_t found; (found = rest.find(token.content)) != std::string_view::npos;) {
        std::string_view left = rest.substr(0, found);
        while (token.lstrip && !left.empty() && IsAsciiSpace(left.back())) left.remove_suffix(1);
        if (!left.empty()) finer.push_back({left, std::nullopt});
        finer.push_back({rest.substr(found, token.content.size()), token.id});
        rest.remove_prefix(found + token.content.size());
        while (token.rstrip && !rest.empty() && IsAsciiSpace(rest.front())) rest.remove_prefix(1);
      }
      if (!rest.empty()) finer.push_back({rest, std::nullopt});
    }
    segments->swap(finer);
  }
}

}  // namespace sluice::tokenizer
