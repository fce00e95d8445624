// Pre-tokenizers: they cut a text into the words that a model encodes one by one, and some change it on the way.
// The names and the meaning are those of Hugging Face's tokenizers; each is a stage, and stages follow one another.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"

namespace sluice::tokenizer {

struct Piece {
  std::string_view text;
  bool begins_text = false;  // it is what the whole text begins with
};

// Texts that were made on the way; pieces are views into them.
using TextArena = std::deque<std::string>;

// Immutable; thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Replaces `pieces` by finer ones, in order, none of them empty.
  virtual Result<void> Run(std::vector<Piece>* pieces, TextArena* arena) const = 0;
};

// What becomes of what a pattern finds.
enum class SplitBehaviour { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Finds by a regular expression, or by a property of a character (each character is then a find of its own).
struct SplitPattern {
  std::optional<Regex> regex = std::nullopt;
  bool (*character)(char32_t) = nullptr;
  char32_t delimiter = 0;  // where neither of the others is set
  bool invert = false;     // what lies between the finds counts as found
};

std::unique_ptr<const PreTokenizer> MakeSplit(SplitPattern pattern, SplitBehaviour behaviour);

enum class PrependScheme { kNever, kFirst, kAlways };
// Spaces become `replacement`, which begins each word (or the text alone, where `split` is false).
std::unique_ptr<const PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme, bool split);

// Runs of word characters, and runs of others; white space goes.
std::unique_ptr<const PreTokenizer> MakeWhitespace();

// A space before each piece that begins with none. Part of ByteLevel.
std::unique_ptr<const PreTokenizer> MakePrefixSpace();

// GPT-2's own pattern, which ByteLevel has built in.
extern const char kGpt2Pattern[];

bool IsNumeric(char32_t c);      // N
bool IsPunctuation(char32_t c);  // P of Unicode 8 (as Hugging Face's has it), and ASCII's symbols

}  // namespace sluice::tokenizer
