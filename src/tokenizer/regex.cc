#include "tokenizer/regex.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tokenizer/regex_syntax.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {
constexpr size_t kMaxProgram = 1 << 16;  // instructions; {n,m} of groups are written out

void SetVersion(UnicodeVersion version, RegexNode* node) {
  node->char_class.SetVersion(version);
  node->char_class.Finish();
  for (const auto& child : node->children) SetVersion(version, child.get());
}
}  // namespace

// Turns a tree into a program, and knows which bytes a node can begin with.
class RegexCompiler {
 public:
  using Op = Regex::Op;
  using Type = RegexNode::Type;

  // nullopt: the program would be too long.
  std::optional<Regex> Compile(const RegexNode& root) {
    Emit(root);
    Add({.op = Op::kMatch});
    if (regex_.program_.size() > kMaxProgram) return std::nullopt;
    regex_.first_set_ = SetOf(root);
    return std::move(regex_);
  }

 private:
  struct First {
    Regex::ByteSet bytes = {};
    bool nullable = false;  // may match without taking a byte
  };

  uint32_t Add(Regex::Instruction instruction) {
    regex_.program_.push_back(instruction);
    return static_cast<uint32_t>(regex_.program_.size() - 1);
  }
  uint32_t Here() const { return static_cast<uint32_t>(regex_.program_.size()); }

  uint32_t AddClass(const CharClass& set) {
    regex_.classes_.push_back(set);
    return static_cast<uint32_t>(regex_.classes_.size() - 1);
  }

  static First FirstOf(const RegexNode& node) {
    First first;
    switch (node.type) {
      case Type::kClass:
        for (char32_t c = 0; c < 128; ++c) {
          if (node.char_class.Contains(c)) first.bytes[c >> 6] |= uint64_t{1} << (c & 63);
        }
        if (node.char_class.AnyAbove127()) first.bytes[2] = first.bytes[3] = ~uint64_t{0};
        break;
      case Type::kSequence:
        first.nullable = true;
        for (const auto& child : node.children) {
          const First next = FirstOf(*child);
          for (size_t i = 0; i < 4; ++i) first.bytes[i] |= next.bytes[i];
          if (!next.nullable) {
            first.nullable = false;
            break;
          }
        }
        break;
      case Type::kAlternatives:
        for (const auto& child : node.children) {
          const First next = FirstOf(*child);
          for (size_t i = 0; i < 4; ++i) first.bytes[i] |= next.bytes[i];
          first.nullable |= next.nullable;
        }
        break;
      case Type::kRepeat:
        first = FirstOf(*node.children[0]);
        first.nullable |= node.min == 0;
        break;
      case Type::kAtomic:
        return FirstOf(*node.children[0]);
      default:
        first.nullable = true;
    }
    return first;
  }

  uint32_t SetOf(const RegexNode& node) {
    const First first = FirstOf(node);
    if (first.nullable) return UINT32_MAX;
    regex_.sets_.push_back(first.bytes);
    return static_cast<uint32_t>(regex_.sets_.size() - 1);
  }

  void Emit(const RegexNode& node) {
    if (regex_.program_.size() > kMaxProgram) return;
    switch (node.type) {
      case Type::kEmpty:
        break;
      case Type::kClass:
        if (node.literal == RegexNode::kNoLiteral) {
          Add({.op = Op::kClass, .a = AddClass(node.char_class)});
        } else {
          std::string bytes;
          AppendUtf8(node.literal, &bytes);
          for (const char byte : bytes) Add({.op = Op::kByte, .a = static_cast<uint8_t>(byte)});
        }
        break;
      case Type::kSequence:
        for (const auto& child : node.children) Emit(*child);
        break;
      case Type::kAlternatives:
        EmitAlternatives(node);
        break;
      case Type::kRepeat:
        EmitRepeat(node);
        break;
      case Type::kAtomic:
      case Type::kAhead:
      case Type::kBehind:
        EmitSub(node);
        break;
      case Type::kLineBegin:
        Add({.op = Op::kLineBegin});
        break;
      case Type::kLineEnd:
        Add({.op = Op::kLineEnd});
        break;
      case Type::kTextBegin:
        Add({.op = Op::kTextBegin});
        break;
      case Type::kTextEnd:
        Add({.op = Op::kTextEnd});
        break;
      case Type::kTextEndOrNewline:
        Add({.op = Op::kTextEndOrNewline});
        break;
      case Type::kWordBoundary:
        Add({.op = Op::kWordBoundary, .flag = node.negated});
        break;
    }
  }

  void EmitAlternatives(const RegexNode& node) {
    std::vector<uint32_t> jumps;
    for (size_t i = 0; i < node.children.size(); ++i) {
      const bool last = i + 1 == node.children.size();
      uint32_t split = 0;
      if (!last) {
        split = Add({.op = Op::kSplit, .set = SetOf(*node.children[i])});
        regex_.program_[split].a = Here();
      }
      Emit(*node.children[i]);
      if (last) break;
      jumps.push_back(Add({.op = Op::kJump}));
      regex_.program_[split].b = Here();
    }
    for (const uint32_t jump : jumps) regex_.program_[jump].a = Here();
  }

  void EmitRepeat(const RegexNode& node) {
    const RegexNode& child = *node.children[0];
    uint32_t atomic = 0;
    const bool possessive = node.greed == RegexNode::Greed::kPossessive;
    const bool lazy = node.greed == RegexNode::Greed::kLazy;
    if (child.type == Type::kClass && !lazy) {
      Add({.op = Op::kRun, .flag = possessive, .a = AddClass(child.char_class), .min = node.min, .max = node.max});
      return;
    }
    if (possessive) atomic = Add({.op = Op::kAtomic});
    for (uint32_t i = 0; i < node.min; ++i) Emit(child);
    const auto split = [&] {
      // `a` is tried first: the loop's body, or what follows where it is lazy.
      return Add({.op = Op::kSplit, .set = lazy ? UINT32_MAX : SetOf(child)});
    };
    const auto aim = [&](uint32_t at, uint32_t body, uint32_t behind) {
      regex_.program_[at].a = lazy ? behind : body;
      regex_.program_[at].b = lazy ? body : behind;
    };
    if (node.max == RegexNode::kNoMaximum) {
      const uint32_t loop = regex_.num_loops_++;
      const uint32_t begin = split();
      const uint32_t body = Add({.op = Op::kLoopEnter, .a = loop});
      Emit(child);
      Add({.op = Op::kLoopCheck, .a = loop});
      Add({.op = Op::kJump, .a = begin});
      aim(begin, body, Here());
    } else {
      std::vector<uint32_t> splits;
      for (uint32_t i = node.min; i < node.max; ++i) {
        splits.push_back(split());
        Emit(child);
        if (regex_.program_.size() > kMaxProgram) return;
      }
      for (const uint32_t at : splits) aim(at, at + 1, Here());
    }
    if (possessive) {
      Add({.op = Op::kMatch});
      regex_.program_[atomic].a = Here();
    }
  }

  void EmitSub(const RegexNode& node) {
    const RegexNode* child = node.children[0].get();
    while (child->type == Type::kSequence && child->children.size() == 1) child = child->children[0].get();
    if (node.type == Type::kAhead && child->type == Type::kClass) {
      Add({.op = Op::kPeek, .flag = node.negated, .a = AddClass(child->char_class)});
      return;
    }
    const Op op = node.type == Type::kAtomic ? Op::kAtomic : node.type == Type::kAhead ? Op::kAhead : Op::kBehind;
    const uint32_t at =
        Add({.op = op, .flag = node.negated, .min = op == Op::kBehind ? RegexFixedLength(*child).value_or(0) : 0});
    Emit(*child);
    Add({.op = Op::kMatch});
    regex_.program_[at].a = Here();
  }

 public:
  // Characters that a node always takes; nullopt where that is not one number.
  static std::optional<uint32_t> RegexFixedLength(const RegexNode& node) {
    switch (node.type) {
      case Type::kClass:
        return 1;
      case Type::kSequence: {
        uint32_t sum = 0;
        for (const auto& child : node.children) {
          const auto length = RegexFixedLength(*child);
          if (!length) return std::nullopt;
          sum += *length;
        }
        return sum;
      }
      case Type::kAlternatives: {
        const auto length = RegexFixedLength(*node.children[0]);
        for (const auto& child : node.children) {
          if (RegexFixedLength(*child) != length) return std::nullopt;
        }
        return length;
      }
      case Type::kRepeat: {
        const auto length = RegexFixedLength(*node.children[0]);
        return length && node.min == node.max ? std::optional(*length * node.min) : std::nullopt;
      }
      case Type::kAtomic:
        return RegexFixedLength(*node.children[0]);
      default:
        return 0;
    }
  }
  static bool BehindsAreFixed(const RegexNode& node) {
    if (node.type == Type::kBehind && !RegexFixedLength(*node.children[0])) return false;
    return std::all_of(node.children.begin(), node.children.end(),
                       [](const auto& child) { return BehindsAreFixed(*child); });
  }

 private:
  Regex regex_;
};

Result<Regex> Regex::Compile(std::string_view pattern, UnicodeVersion version) {
  SLUICE_ASSIGN(const std::unique_ptr<RegexNode> root, ParseRegex(pattern));
  SetVersion(version, root.get());
  const auto refuse = [&](std::string_view what) {
    return Fail(ErrorCode::kUnsupported,
                fmt::format("the regular expression \"{}\" {}, which is not supported yet", pattern, what));
  };
  if (!RegexCompiler::BehindsAreFixed(*root)) return refuse("looks behind for a text of no fixed length");
  std::optional<Regex> regex = RegexCompiler().Compile(*root);
  if (!regex) return refuse("repeats groups too often");
  return std::move(*regex);
}

Regex Regex::Literal(std::string_view text) {
  RegexNode sequence;
  sequence.type = RegexNode::Type::kSequence;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = CodePointAt(text, at);
    at += c.size_bytes;
    auto node = std::make_unique<RegexNode>();
    node->type = RegexNode::Type::kClass;
    node->literal = c.value;
    node->char_class.AddRange(c.value, c.value);
    node->char_class.Finish();
    sequence.children.push_back(std::move(node));
  }
  return *RegexCompiler().Compile(sequence);
}

// Runs the program from `instruction` at *position until kMatch; then *position is where it ended.
bool Regex::Searcher::Run(uint32_t instruction, size_t* position) {
  const size_t base = choices_.size();
  size_t at = *position;
  const auto fail = [&]() -> bool {  // goes back to the last choice; false where there is none
    if (choices_.size() == base) return false;
    Choice& choice = choices_.back();
    instruction = choice.instruction;
    if (!choice.run) {
      at = choice.position;
      choices_.pop_back();
      return true;
    }
    choice.position -= CodePointBefore(text_, choice.position).size_bytes;
    at = choice.position;
    if (at <= choice.least) choices_.pop_back();
    return true;
  };
  while (true) {
    if (++steps_ > max_steps_) {
      out_of_steps_ = true;
      choices_.resize(base);
      return false;
    }
    const Instruction& now = regex_.program_[instruction];
    bool good = true;
    switch (now.op) {
      case Op::kByte:
        good = at < text_.size() && static_cast<uint8_t>(text_[at]) == now.a;
        if (good) ++at, ++instruction;
        break;
      case Op::kClass: {
        good = false;
        if (at < text_.size()) {
          const CodePoint c = CodePointAt(text_, at);
          if (regex_.classes_[now.a].Contains(c.value)) at += c.size_bytes, ++instruction, good = true;
        }
        break;
      }
      case Op::kRun: {
        const CharClass& set = regex_.classes_[now.a];
        size_t end = at, least = at;
        uint32_t count = 0;
        while (count < now.max && end < text_.size()) {
          const auto byte = static_cast<uint8_t>(text_[end]);
          if (byte < 128) {
            if (!set.Contains(byte)) break;
            ++end;
          } else {
            const CodePoint c = CodePointAt(text_, end);
            if (!set.Contains(c.value)) break;
            end += c.size_bytes;
          }
          if (++count == now.min) least = end;
        }
        steps_ += count / 8;
        good = count >= now.min;
        if (!good) break;
        ++instruction;
        if (!now.flag && end > least) choices_.push_back({instruction, true, end, least});
        at = end;
        break;
      }
      case Op::kSplit:
        if (now.set != UINT32_MAX) {
          const auto byte = at < text_.size() ? static_cast<uint8_t>(text_[at]) : 0;
          if (at >= text_.size() || (regex_.sets_[now.set][byte >> 6] >> (byte & 63) & 1) == 0) {
            instruction = now.b;
            break;
          }
        }
        choices_.push_back({now.b, false, at, 0});
        instruction = now.a;
        break;
      case Op::kJump:
        instruction = now.a;
        break;
      case Op::kAhead: {
        size_t end = at;
        good = Run(instruction + 1, &end) != now.flag && !out_of_steps_;
        instruction = now.a;
        break;
      }
      case Op::kBehind: {
        size_t begin = at;
        uint32_t left = now.min;
        for (; left > 0 && begin > 0; --left) begin -= CodePointBefore(text_, begin).size_bytes;
        good = (left == 0 && Run(instruction + 1, &begin)) != now.flag && !out_of_steps_;
        instruction = now.a;
        break;
      }
      case Op::kAtomic:
        good = Run(instruction + 1, &at);
        instruction = now.a;
        break;
      case Op::kPeek:
        good = (at < text_.size() && regex_.classes_[now.a].Contains(CodePointAt(text_, at).value)) != now.flag;
        ++instruction;
        break;
      case Op::kLoopEnter:
        loop_positions_[now.a] = at;
        ++instruction;
        break;
      case Op::kLoopCheck:
        good = loop_positions_[now.a] != at;
        ++instruction;
        break;
      case Op::kLineBegin:
        good = at == 0 || (text_[at - 1] == '\n' && at < text_.size());
        ++instruction;
        break;
      case Op::kLineEnd:
        good = at == text_.size() || text_[at] == '\n';
        ++instruction;
        break;
      case Op::kTextBegin:
        good = at == 0;
        ++instruction;
        break;
      case Op::kTextEnd:
        good = at == text_.size();
        ++instruction;
        break;
      case Op::kTextEndOrNewline:
        good = at == text_.size() || (at + 1 == text_.size() && text_[at] == '\n');
        ++instruction;
        break;
      case Op::kWordBoundary: {
        const bool before = at > 0 && IsWord(CodePointBefore(text_, at).value);
        const bool behind = at < text_.size() && IsWord(CodePointAt(text_, at).value);
        good = (before != behind) != now.flag;
        ++instruction;
        break;
      }
      case Op::kMatch:
        choices_.resize(base);
        *position = at;
        return true;
    }
    if (!good && !fail()) return false;
  }
}

// Where to try next when nothing (but a match that is not wanted) was found at `begin`.
size_t Regex::Searcher::AfterFailure(size_t begin, bool matched) const {
  if (begin >= text_.size()) return begin + 1;
  // What begins with C+ or C* of a class and fails, fails from every character of the same run too: the ways to go on
  // are some of those that were tried. This is what keeps \s+$ linear.
  const Instruction& start = regex_.program_[0];
  size_t end = begin + CodePointAt(text_, begin).size_bytes;
  if (matched || start.op != Op::kRun || start.min > 1 || start.max != RegexNode::kNoMaximum) return end;
  const CharClass& set = regex_.classes_[start.a];
  for (size_t at = begin; at < text_.size();) {
    const CodePoint c = CodePointAt(text_, at);
    if (!set.Contains(c.value)) break;
    at += c.size_bytes;
    end = std::max(end, at);
  }
  return end;
}

Result<std::optional<Match>> Regex::Searcher::Next() {
  loop_positions_.resize(regex_.num_loops_);
  steps_ = 0;
  max_steps_ = kMaxSteps + 64 * text_.size();
  const ByteSet* first = regex_.first_set_ == UINT32_MAX ? nullptr : &regex_.sets_[regex_.first_set_];
  for (size_t begin = from_; begin <= text_.size();) {
    if (first != nullptr) {
      while (begin < text_.size()) {
        const auto byte = static_cast<uint8_t>(text_[begin]);
        if (((*first)[byte >> 6] >> (byte & 63) & 1) != 0 && (byte & 0xC0) != 0x80) break;
        ++begin;
      }
      if (begin == text_.size()) break;
    }
    size_t end = begin;
    const bool matched = Run(0, &end);
    if (out_of_steps_) {
      return Fail(
          ErrorCode::kUnsupported,
          fmt::format("a regular expression of the tokenizer tries too many ways to match at byte {}; such a text "
                      "is not supported yet",
                      begin));
    }
    if (matched && (end > begin || last_end_ != end)) {
      from_ = end;
      last_end_ = end;
      return std::optional(Match{begin, end});
    }
    begin = AfterFailure(begin, matched);
  }
  from_ = text_.size() + 1;
  return std::optional<Match>();
}

}  // namespace sluice::tokenizer
