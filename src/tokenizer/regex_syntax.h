// The syntax tree of a regular expression. Only for regex.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/char_class.h"

namespace sluice::tokenizer {

struct RegexNode {
  enum class Type {
    kEmpty,
    kClass,
    kSequence,      // children one behind the other
    kAlternatives,  // the first child that matches
    kRepeat,        // children[0], min to max times
    kAtomic,
    kAhead,   // negated: (?!
    kBehind,  // negated: (?<!
    kLineBegin,
    kLineEnd,
    kTextBegin,
    kTextEnd,
    kTextEndOrNewline,
    kWordBoundary,
  };
  enum class Greed { kGreedy, kLazy, kPossessive };
  static constexpr uint32_t kNoMaximum = UINT32_MAX;

  Type type = Type::kEmpty;
  bool negated = false;
  CharClass char_class;                // kClass
  char32_t literal = 0;                // kClass of one character: that; otherwise kNoLiteral
  Greed greed = Greed::kGreedy;        // kRepeat
  uint32_t min = 0, max = kNoMaximum;  // kRepeat
  std::vector<std::unique_ptr<RegexNode>> children;

  static constexpr char32_t kNoLiteral = UINT32_MAX;
};

// kUnsupported with the byte of the pattern.
Result<std::unique_ptr<RegexNode>> ParseRegex(std::string_view pattern);

}  // namespace sluice::tokenizer
