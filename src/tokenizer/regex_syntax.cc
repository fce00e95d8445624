#include "tokenizer/regex_syntax.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "formats/json_reader.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

using Node = std::unique_ptr<RegexNode>;
using Type = RegexNode::Type;

constexpr int kMaxDepth = 64;
constexpr uint32_t kMaxRepeat = 1000;

Node Make(Type type) {
  auto node = std::make_unique<RegexNode>();
  node->type = type;
  node->literal = RegexNode::kNoLiteral;
  return node;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<Node> Parse() {
    SLUICE_ASSIGN(Node node, Alternatives(0));
    if (at_ < pattern_.size()) return Refuse("an unmatched )");
    return node;
  }

 private:
  tl::unexpected<Error> Refuse(std::string_view what) const {
    return Fail(ErrorCode::kUnsupported,
                fmt::format("the regular expression \"{}\" has {} at byte {}, which is not supported yet", pattern_,
                            what, at_));
  }
  bool Done() const { return at_ >= pattern_.size(); }
  bool Take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  Result<Node> Alternatives(int depth) {
    if (depth > kMaxDepth) return Refuse("groups nested too deep");
    Node all = Make(Type::kAlternatives);
    do {
      SLUICE_ASSIGN(Node sequence, Sequence(depth));
      all->children.push_back(std::move(sequence));
    } while (Take("|"));
    if (all->children.size() == 1) return std::move(all->children[0]);
    return all;
  }

  Result<Node> Sequence(int depth) {
    Node sequence = Make(Type::kSequence);
    const bool outer_case = ignore_case_;
    while (!Done() && pattern_[at_] != '|' && pattern_[at_] != ')') {
      if (Take("(?i)")) {
        ignore_case_ = true;
        continue;
      }
      SLUICE_ASSIGN(Node atom, Atom(depth));
      SLUICE_ASSIGN(atom, Quantified(std::move(atom)));
      sequence->children.push_back(std::move(atom));
    }
    if (ignore_case_ != outer_case && !Done() && pattern_[at_] == '|') return Refuse("(?i) before an alternative");
    ignore_case_ = outer_case;
    return sequence;
  }

  Result<Node> Quantified(Node atom) {
    while (!Done()) {
      uint32_t min = 0, max = RegexNode::kNoMaximum;
      bool braces = false;
      if (Take("*")) {
      } else if (Take("+")) {
        min = 1;
      } else if (Take("?")) {
        max = 1;
      } else if (pattern_[at_] == '{') {
        braces = true;
        SLUICE_TRY(Braces(&min, &max));
      } else {
        break;
      }
      Node repeat = Make(Type::kRepeat);
      repeat->min = min;
      repeat->max = max;
      if (Take("?")) {
        if (braces && min == max) return Refuse("{n}?");
        repeat->greed = RegexNode::Greed::kLazy;
      } else if (!braces && Take("+")) {
        repeat->greed = RegexNode::Greed::kPossessive;
      } else if (!Done() && (pattern_[at_] == '*' || pattern_[at_] == '+' || pattern_[at_] == '{')) {
        return Refuse("a quantifier of a quantifier");
      }
      repeat->children.push_back(std::move(atom));
      atom = std::move(repeat);
    }
    return atom;
  }

  Result<void> Braces(uint32_t* min, uint32_t* max) {
    const size_t open = at_;
    ++at_;
    const std::optional<uint32_t> low = Number();
    *min = low.value_or(0);
    *max = *min;
    bool high = false;
    if (Take(",")) {
      const std::optional<uint32_t> number = Number();
      high = number.has_value();
      *max = number.value_or(RegexNode::kNoMaximum);
    }
    if (!Take("}") || (!low && !high) || *min > kMaxRepeat || *min > *max ||
        (*max != RegexNode::kNoMaximum && *max > kMaxRepeat)) {
      at_ = open;
      return Refuse("a { that is no quantifier of at most 1000");
    }
    return {};
  }

  std::optional<uint32_t> Number() {
    uint32_t value = 0;
    const size_t begin = at_;
    while (!Done() && pattern_[at_] >= '0' && pattern_[at_] <= '9' && value <= kMaxRepeat) {
      value = value * 10 + static_cast<uint32_t>(pattern_[at_++] - '0');
    }
    return at_ > begin ? std::optional(value) : std::nullopt;
  }

  Result<Node> Group(int depth) {
    Node outer;
    const bool outer_case = ignore_case_;
    if (Take("?:")) {
    } else if (Take("?i:")) {
      ignore_case_ = true;
    } else if (Take("?-i:")) {
      ignore_case_ = false;
    } else if (Take("?=")) {
      outer = Make(Type::kAhead);
    } else if (Take("?!")) {
      outer = Make(Type::kAhead);
      outer->negated = true;
    } else if (Take("?<=")) {
      outer = Make(Type::kBehind);
    } else if (Take("?<!")) {
      outer = Make(Type::kBehind);
      outer->negated = true;
    } else if (Take("?>")) {
      outer = Make(Type::kAtomic);
    } else if (!Done() && pattern_[at_] == '?') {
      return Refuse("a group of this kind");
    }
    SLUICE_ASSIGN(Node inner, Alternatives(depth + 1));
    if (!Take(")")) return Refuse("a group without its )");
    ignore_case_ = outer_case;
    if (!outer) return inner;
    outer->children.push_back(std::move(inner));
    return outer;
  }

  Result<Node> Atom(int depth) {
    const char first = pattern_[at_];
    switch (first) {
      case '(':
        ++at_;
        return Group(depth);
      case '[': {
        Node node = Make(Type::kClass);
        SLUICE_ASSIGN(node->char_class, Class(depth));
        node->char_class.Finish();
        return node;
      }
      case '.': {
        ++at_;
        Node node = Make(Type::kClass);
        node->char_class.AddRange('\n', '\n');
        node->char_class.Negate();
        node->char_class.Finish();
        return node;
      }
      case '^':
        ++at_;
        return Make(Type::kLineBegin);
      case '$':
        ++at_;
        return Make(Type::kLineEnd);
      case '*':
      case '+':
      case '?':
        return Refuse("a quantifier of nothing");
      case '\\': {
        if (Take("\\b")) return Make(Type::kWordBoundary);
        if (Take("\\A")) return Make(Type::kTextBegin);
        if (Take("\\z")) return Make(Type::kTextEnd);
        if (Take("\\Z")) return Make(Type::kTextEndOrNewline);
        if (Take("\\B")) {
          Node node = Make(Type::kWordBoundary);
          node->negated = true;
          return node;
        }
        Node node = Make(Type::kClass);
        SLUICE_ASSIGN(const std::optional<char32_t> literal, Escape(&node->char_class));
        return literal ? Literal(*literal) : Finished(std::move(node));
      }
      default: {
        const CodePoint c = CodePointAt(pattern_, at_);
        at_ += c.size_bytes;
        return Literal(c.value);
      }
    }
  }

  static Node Finished(Node node) {
    node->char_class.Finish();
    return node;
  }

  Node Literal(char32_t c) const {
    Node node = Make(Type::kClass);
    node->char_class.AddRange(c, c);
    if (ignore_case_) {
      node->char_class.CloseOverCase();
    } else {
      node->literal = c;
    }
    return Finished(std::move(node));
  }

  // A backslash and what follows: a literal, or added to `into`.
  Result<std::optional<char32_t>> Escape(CharClass* into) {
    if (at_ + 1 >= pattern_.size()) return Refuse("a \\ at its end");
    const size_t begin = at_;
    ++at_;
    const CodePoint c = CodePointAt(pattern_, at_);
    at_ += c.size_bytes;
    const auto literal = [](char32_t value) { return std::optional(value); };
    switch (c.value) {
      case 'n':
        return literal('\n');
      case 'r':
        return literal('\r');
      case 't':
        return literal('\t');
      case 'f':
        return literal('\f');
      case 'v':
        return literal('\v');
      case 'a':
        return literal('\a');
      case 'e':
        return literal(0x1B);
      case 's':
      case 'S':
        into->AddSpace(c.value == 'S');
        return std::optional<char32_t>();
      case 'w':
      case 'W':
        into->AddWord(c.value == 'W');
        return std::optional<char32_t>();
      case 'd':
      case 'D':
        into->AddProperty("Nd", c.value == 'D');
        return std::optional<char32_t>();
      case 'p':
      case 'P':
        SLUICE_TRY(Property(c.value == 'P', into));
        return std::optional<char32_t>();
      case 'x':
      case 'u': {
        const bool braces = Take("{");
        const size_t digits = braces ? 8 : c.value == 'u' ? 4 : 2;
        char32_t value = 0;
        size_t count = 0;
        for (; count < digits && !Done(); ++count, ++at_) {
          const char digit = pattern_[at_];
          if (digit >= '0' && digit <= '9') {
            value = value * 16 + static_cast<char32_t>(digit - '0');
          } else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f') {
            value = value * 16 + static_cast<char32_t>((digit | 0x20) - 'a' + 10);
          } else {
            break;
          }
        }
        const bool whole = braces ? count > 0 && Take("}") : count == digits;
        if (!whole || value > 0x10FFFF || (!braces && c.value == 'x' && value > 127)) {
          at_ = begin;
          return Refuse("a character by number of this form");
        }
        return literal(value);
      }
      default:
        if (c.value < 128 && ((c.value | 0x20) >= 'a' && (c.value | 0x20) <= 'z')) {
          at_ = begin;
          return Refuse(fmt::format("\\{}", static_cast<char>(c.value)));
        }
        if (c.value >= '0' && c.value <= '9') {
          at_ = begin;
          return Refuse("a back-reference or octal number");
        }
        return literal(c.value);
    }
  }

  Result<void> Property(bool negated, CharClass* into) {
    const size_t close = pattern_.find('}', at_);
    if (!Take("{") || close == std::string_view::npos) return Refuse("\\p without {}");
    if (Take("^")) negated = !negated;
    const std::string_view name = pattern_.substr(at_, close - at_);
    if (!into->AddProperty(name, negated)) return Refuse(fmt::format("the property {}", name));
    at_ = close + 1;
    return {};
  }

  // at_ is on the [. Nested classes join; an intersection is refused.
  Result<CharClass> Class(int depth) {
    if (depth > kMaxDepth) return Refuse("classes nested too deep");
    CharClass set;
    ++at_;
    const bool negated = Take("^");
    SLUICE_TRY(ClassItems(depth, &set));
    if (ignore_case_) set.CloseOverCase();
    if (negated) set.Negate();
    return set;
  }

  Result<void> ClassItems(int depth, CharClass* set) {
    bool first = true;
    while (true) {
      if (Done()) return Refuse("a class without its ]");
      if (pattern_[at_] == ']' && !first) {
        ++at_;
        return {};
      }
      first = false;
      if (pattern_.substr(at_).starts_with("&&")) return Refuse("an intersection of classes");
      if (pattern_.substr(at_).starts_with("[^") || pattern_.substr(at_).starts_with("[:")) {
        return Refuse("a class of this kind in a class");
      }
      if (pattern_[at_] == '[') {
        ++at_;
        if (depth >= kMaxDepth) return Refuse("classes nested too deep");
        SLUICE_TRY(ClassItems(depth + 1, set));
        continue;
      }
      SLUICE_ASSIGN(const std::optional<char32_t> low, ClassCharacter(set));
      if (!low) continue;
      char32_t last = *low;
      if (at_ + 1 < pattern_.size() && pattern_[at_] == '-' && pattern_[at_ + 1] != ']') {
        ++at_;
        if (pattern_[at_] == '[') return Refuse("a range that ends in a class");
        CharClass unused;
        SLUICE_ASSIGN(const std::optional<char32_t> high, ClassCharacter(&unused));
        if (!high || *high < *low) return Refuse("a range of this kind");
        last = *high;
      }
      set->AddRange(*low, last);
    }
  }

  Result<std::optional<char32_t>> ClassCharacter(CharClass* set) {
    if (pattern_[at_] == '\\') {
      if (Take("\\b")) return std::optional<char32_t>('\b');
      return Escape(set);
    }
    const CodePoint c = CodePointAt(pattern_, at_);
    at_ += c.size_bytes;
    return std::optional(c.value);
  }

  const std::string_view pattern_;
  size_t at_ = 0;
  bool ignore_case_ = false;
};

}  // namespace

Result<std::unique_ptr<RegexNode>> ParseRegex(std::string_view pattern) {
  if (formats::FirstInvalidUtf8(pattern)) return Fail(ErrorCode::kCorrupt, "a regular expression is not UTF-8");
  return Parser(pattern).Parse();
}

}  // namespace sluice::tokenizer
