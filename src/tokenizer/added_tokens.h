// AddedTokens: tokens that are found in a text before anything else looks at it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tokenizer {

struct AddedToken {
  uint32_t id = 0;
  std::string content;
  bool special = false;                 // found only where special tokens are parsed
  bool lstrip = false, rstrip = false;  // takes the white space beside it along
  bool single_word = false;             // only where no word character stands beside it
  bool normalized = false;              // looked for in the normalised text
};

// A part of a text: a token, or text between tokens.
struct Segment {
  std::string_view text;
  std::optional<uint32_t> id;
};

// Texts and what each stands for, to find all at once: a trie over bytes.
class TextFinder {
 public:
  // The first of equal texts stays. Empty texts are ignored.
  void Add(std::string_view text, uint32_t value);
  bool empty() const { return nodes_.size() == 1; }
  struct Found {
    size_t begin, end;
    uint32_t value;
  };
  // The leftmost text at or after `from`, the longest of those that begin there.
  std::optional<Found> Find(std::string_view in, size_t from) const;
  // The size of the longest text that `in` begins with.
  std::optional<size_t> LongestPrefix(std::string_view in) const;
  // The values of all texts that begin at in[at].
  void AllAt(std::string_view in, size_t at, std::vector<uint32_t>* values) const;
  bool MayBegin(char byte) const { return first_[static_cast<uint8_t>(byte)]; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    char byte;
    uint32_t child = kNone, sibling = kNone, value = kNone;
  };
  uint32_t Child(uint32_t node, char byte) const;
  std::optional<Found> LongestAt(std::string_view in, size_t begin) const;
  std::vector<Node> nodes_ = {{0}};
  std::array<bool, 256> first_ = {};
};

// Immutable once made; thread-safe.
class AddedTokens {
 public:
  enum class Way {
    // The leftmost token, the longest of those that begin there (Hugging Face). Tokens that are `normalized` are looked
    // for
    // in a second pass.
    kLeftmost,
    // The longest tokens first, each in all that the longer ones left (llama.cpp). White space is ASCII's.
    kLongestFirst,
  };
  AddedTokens(std::vector<AddedToken> tokens, Way way);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  bool any_normalized() const { return !finders_[1].empty(); }
  // `contents_normalized`: what the normaliser makes of each token, for those that are looked for in normalised text.
  void SetNormalizedContents(const std::vector<std::string>& contents);

  // The parts of `text` in order, none of them empty but tokens that stand for nothing else.
  std::vector<Segment> Split(std::string_view text, bool parse_special, bool normalized) const;

 private:
  void SplitLeftmost(std::string_view text, bool parse_special, const TextFinder& finder,
                     std::vector<Segment>* segments) const;
  void SplitLongestFirst(std::string_view text, bool parse_special, std::vector<Segment>* segments) const;

  std::vector<AddedToken> tokens_;
  const Way way_;
  std::array<TextFinder, 2> finders_;  // in raw and in normalised text
};

}  // namespace sluice::tokenizer
