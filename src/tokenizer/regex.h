// Regex: the regular expressions that cut text into words, in the dialect of Hugging Face's tokenizers (Oniguruma's
// Ruby syntax), over UTF-8.
//
// Our own matcher rather than PCRE2: the answers must be Oniguruma's for every character (its \s, \w and Unicode
// version are not PCRE2's), and a run of a million letters must cost neither stack nor more than one look at each. A
// backtracking machine with its stack on the heap; a class with a quantifier is one instruction.
//
// Understood: alternatives, groups, (?i:), (?:), (?>), look-ahead, look-behind of fixed length, greedy, lazy and
// possessive quantifiers, classes (nested ones too), \s \d \w \p{} and their opposites, \b, anchors (of lines, as in
// Ruby). Anything else is refused by name.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/char_class.h"

namespace sluice::tokenizer {

struct Match {
  size_t begin, end;  // bytes
};

// Immutable; thread-safe.
class Regex {
 public:
  // kUnsupported, naming what is not understood and where in the pattern.
  static Result<Regex> Compile(std::string_view pattern, UnicodeVersion version = UnicodeVersion::k16);
  // A pattern that finds `text` itself.
  static Regex Literal(std::string_view text);

  // What a search keeps between calls. One a thread.
  class Searcher {
   public:
    // `text` is well-formed UTF-8 and outlives the searcher.
    Searcher(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {}
    // The next match, leftmost first, as Oniguruma's iterator gives them: an empty match right behind the last one is
    // passed over. kUnsupported where backtracking exceeds what a sensible pattern needs (kMaxSteps).
    Result<std::optional<Match>> Next();

   private:
    struct Choice {
      uint32_t instruction;
      bool run;  // of a class: may give characters back down to `least`
      size_t position, least;
    };
    bool Run(uint32_t instruction, size_t* position);
    size_t AfterFailure(size_t begin, bool matched) const;

    const Regex& regex_;
    std::string_view text_;
    size_t from_ = 0;
    std::optional<size_t> last_end_;
    std::vector<Choice> choices_;
    std::vector<size_t> loop_positions_;
    uint64_t steps_ = 0, max_steps_ = 0;
    bool out_of_steps_ = false;
  };
  static constexpr uint64_t kMaxSteps = 10'000'000;  // of one search, and 64 for each byte of the text

 private:
  friend class RegexCompiler;
  enum class Op : uint8_t {
    kByte,       // a = the byte
    kClass,      // a = class
    kRun,        // a = class, min to max times; flag: possessive
    kSplit,      // a first, then b; first bytes of a in `set`
    kJump,       // a
    kAhead,      // the sub-program behind it ends before a; flag: negated
    kBehind,     // the same, min characters back
    kAtomic,     // the same; goes on where the sub-program ended
    kPeek,       // a = class; flag: negated (an end of text is then fine)
    kLoopEnter,  // a = loop: remembers where an iteration begins
    kLoopCheck,  // a = loop: fails where the iteration took nothing
    kLineBegin,
    kLineEnd,
    kTextBegin,
    kTextEnd,
    kTextEndOrNewline,
    kWordBoundary,  // flag: negated
    kMatch,
  };
  struct Instruction {
    Op op;
    bool flag = false;
    uint32_t a = 0, b = 0, min = 0, max = 0, set = UINT32_MAX;
  };
  using ByteSet = std::array<uint64_t, 4>;

  std::vector<Instruction> program_;
  std::vector<CharClass> classes_;
  std::vector<ByteSet> sets_;
  uint32_t first_set_ = UINT32_MAX;  // bytes that a match can begin with; none: any, or an empty match
  uint32_t num_loops_ = 0;
};

}  // namespace sluice::tokenizer
