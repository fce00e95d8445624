#include "formats/pickle.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"

namespace sluice::formats {
namespace {

// Opcodes by their byte, with the names that Python's pickletools gives them.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kEmptyList = ']',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kEmptyDict = '}',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kEmptySet = 0x8f,
};

struct Named {
  uint8_t opcode;
  std::string_view name;
};
constexpr std::array<Named, 68> kNames = {{
    {'(', "MARK"},
    {'.', "STOP"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'J', "BININT"},
    {'K', "BININT1"},
    {'L', "LONG"},
    {'M', "BININT2"},
    {'N', "NONE"},
    {'P', "PERSID"},
    {'Q', "BINPERSID"},
    {'R', "REDUCE"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'X', "BINUNICODE"},
    {'a', "APPEND"},
    {'b', "BUILD"},
    {'c', "GLOBAL"},
    {'d', "DICT"},
    {'}', "EMPTY_DICT"},
    {'e', "APPENDS"},
    {'g', "GET"},
    {'h', "BINGET"},
    {'i', "INST"},
    {'j', "LONG_BINGET"},
    {'l', "LIST"},
    {']', "EMPTY_LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {'q', "BINPUT"},
    {'r', "LONG_BINPUT"},
    {'s', "SETITEM"},
    {'t', "TUPLE"},
    {')', "EMPTY_TUPLE"},
    {'u', "SETITEMS"},
    {'G', "BINFLOAT"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {0x80, "PROTO"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x85, "TUPLE1"},
    {0x86, "TUPLE2"},
    {0x87, "TUPLE3"},
    {0x88, "NEWTRUE"},
    {0x89, "NEWFALSE"},
    {0x8a, "LONG1"},
    {0x8b, "LONG4"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
}};

constexpr std::string_view kTooMany =
    "so many tensors (12,500 or more) have to be saved in several files: save_pretrained(max_shard_size=...)";

std::string OpcodeName(uint8_t opcode) {
  const auto* found = std::find_if(kNames.begin(), kNames.end(), [&](const Named& n) { return n.opcode == opcode; });
  return found == kNames.end() ? fmt::format("opcode {:#04x}", opcode) : std::string(found->name);
}

}  // namespace

class PickleParser {
 public:
  using Id = Pickle::Id;
  using Kind = Pickle::Kind;
  using Role = PickleGlobal::Role;

  PickleParser(std::string text, std::span<const PickleGlobal> globals, std::vector<std::string> context)
      : globals_(globals), context_(std::move(context)) {
    pickle_.text_ = std::move(text);
  }

  Result<Pickle> Run() {
    const std::string_view text = pickle_.text_;
    if (text.size() > kMaxPickleBytes) {
      return Refuse(fmt::format("a pickle of {} bytes is over the limit of {}", text.size(), kMaxPickleBytes));
    }
    for (uint64_t count = 1;; ++count) {
      at_ = next_;
      if (count > kMaxPickleOpcodes)
        return Refuse(fmt::format("more than {} opcodes; {}", FormatCount(kMaxPickleOpcodes), kTooMany));
      if (next_ == text.size()) return Malformed("the pickle ends without STOP");
      opcode_ = static_cast<uint8_t>(text[next_++]);
      if ((count == 1) != (opcode_ == kProto)) {
        return count == 1 ? Malformed("is not PROTO, with which every pickle of protocol 2 begins")
                          : Malformed("stands inside a pickle: a second one was put into it");
      }
      if (opcode_ == kStop) break;
      SLUICE_TRY(Step());
      if (stack_.size() + marks_.size() > kMaxPickleStack) {
        return Refuse(fmt::format("a stack of more than {}", FormatCount(kMaxPickleStack)));
      }
    }
    if (!marks_.empty() || stack_.size() != 1) {
      return Malformed(fmt::format("leaves {} values on the stack, not one", stack_.size() + marks_.size()));
    }
    if (next_ != text.size()) {
      return Malformed(
          fmt::format("{} bytes follow the end of the pickle: a second pickle, or something else, was "
                      "put behind it",
                      text.size() - next_));
    }
    pickle_.root_ = stack_.back();
    return std::move(pickle_);
  }

 private:
  tl::unexpected<Error> Fails(ErrorCode code, std::string_view message) const {
    return Fail(Error{code, fmt::format("byte {}: {} {}", at_, OpcodeName(opcode_), message), context_});
  }
  tl::unexpected<Error> Malformed(std::string_view message) const {
    return Fails(ErrorCode::kCorrupt, fmt::format("{}; the file is damaged or was tampered with", message));
  }
  tl::unexpected<Error> Refuse(std::string_view message) const {
    return Fails(ErrorCode::kUnsupported, fmt::format("is refused: {}", message));
  }

  Id New(Kind kind, uint32_t a = 0, uint32_t b = 0, bool has_attributes = false) {
    pickle_.nodes_.push_back({kind, has_attributes, static_cast<uint32_t>(at_), a, b});
    return static_cast<Id>(pickle_.nodes_.size() - 1);
  }
  Result<void> Push(Id value) {
    stack_.push_back(value);
    return {};
  }
  Result<void> PushInt(int64_t value) {
    const auto bits = static_cast<uint64_t>(value);
    return Push(New(Kind::kInt, static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)));
  }

  // Values above the last mark: others are out of reach, as in Python.
  size_t reachable() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  Result<void> Want(size_t values) const {
    if (reachable() < values)
      return Malformed(fmt::format("needs {} values on the stack, there are {}", values, reachable()));
    return {};
  }
  Id Pop() {
    const Id value = stack_.back();
    stack_.pop_back();
    return value;
  }
  // Takes the values above the last mark, and the mark, into items_. Returns where they begin there.
  Result<uint32_t> PopToMark() {
    if (marks_.empty()) return Malformed("finds no MARK on the stack");
    const auto begin = static_cast<uint32_t>(pickle_.items_.size());
    const auto first = stack_.begin() + marks_.back();
    pickle_.items_.insert(pickle_.items_.end(), first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return begin;
  }
  uint32_t PopItems(size_t count) {
    const auto begin = static_cast<uint32_t>(pickle_.items_.size());
    pickle_.items_.insert(pickle_.items_.end(), stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return begin;
  }

  Result<std::string_view> Take(uint64_t size_bytes) {
    const std::string_view rest = std::string_view(pickle_.text_).substr(next_);
    if (size_bytes > rest.size()) {
      return Malformed(fmt::format("takes {} bytes, but the pickle has only {} more", size_bytes, rest.size()));
    }
    next_ += size_bytes;
    return rest.substr(0, size_bytes);
  }
  Result<uint64_t> Number(size_t size_bytes) {
    SLUICE_ASSIGN(const std::string_view bytes, Take(size_bytes));
    uint64_t value = 0;
    for (size_t i = size_bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
  }

  Result<void> Step() {
    switch (opcode_) {
      case kProto: {
        SLUICE_ASSIGN(const uint64_t protocol, Number(1));
        if (protocol == 2 || protocol == 3) return {};
        return Refuse(
            fmt::format("protocol {}; torch.save writes 2 unless it is told otherwise: save the file again", protocol));
      }
      case kMark:
        marks_.push_back(static_cast<uint32_t>(stack_.size()));
        return {};
      case kNone:
        return Push(New(Kind::kNone));
      case kNewTrue:
      case kNewFalse:
        return Push(New(Kind::kBool, opcode_ == kNewTrue ? 1 : 0));
      case kBinInt: {
        SLUICE_ASSIGN(const uint64_t value, Number(4));
        return PushInt(static_cast<int32_t>(value));
      }
      case kBinInt1:
      case kBinInt2: {
        SLUICE_ASSIGN(const uint64_t value, Number(opcode_ == kBinInt1 ? 1 : 2));
        return PushInt(static_cast<int64_t>(value));
      }
      case kLong1: {
        SLUICE_ASSIGN(const uint64_t size, Number(1));
        if (size > 8) {
          SLUICE_TRY(Take(size));
          return Push(New(Kind::kLargeInt));
        }
        SLUICE_ASSIGN(const uint64_t value, Number(size));
        const int unused = static_cast<int>(64 - 8 * size);
        return PushInt(size == 0 ? 0 : static_cast<int64_t>(value << unused) >> unused);
      }
      case kBinFloat:
        SLUICE_TRY(Take(8));
        return Push(New(Kind::kFloat));
      case kBinUnicode:
      case kShortBinString: {
        SLUICE_ASSIGN(const uint64_t size, Number(opcode_ == kBinUnicode ? 4 : 1));
        const auto begin = static_cast<uint32_t>(next_);
        SLUICE_ASSIGN(const std::string_view text, Take(size));
        const bool is_text = !FirstInvalidUtf8(text);
        if (!is_text && opcode_ == kBinUnicode) return Malformed("is not UTF-8");
        return Push(New(is_text ? Kind::kText : Kind::kBytes, begin, static_cast<uint32_t>(size)));
      }
      case kEmptyTuple:
        return Push(New(Kind::kTuple));
      case kEmptyList:
        return Push(New(Kind::kList, Pickle::kNoRun, Pickle::kNoRun));
      case kEmptyDict:
        return Push(New(Kind::kDict, Pickle::kNoRun, Pickle::kNoRun));
      case kEmptySet:
        return Push(New(Kind::kSet));
      case kTuple: {
        SLUICE_ASSIGN(const uint32_t begin, PopToMark());
        return Push(New(Kind::kTuple, begin, static_cast<uint32_t>(pickle_.items_.size() - begin)));
      }
      case kTuple1:
      case kTuple2:
      case kTuple3: {
        const uint32_t size = opcode_ - kTuple1 + 1u;
        SLUICE_TRY(Want(size));
        const uint32_t begin = PopItems(size);
        return Push(New(Kind::kTuple, begin, size));
      }
      case kAppend:
      case kSetItem: {
        const size_t size = opcode_ == kAppend ? 1 : 2;
        SLUICE_TRY(Want(size + 1));
        return AddRun(PopItems(size), opcode_ == kAppend ? Kind::kList : Kind::kDict);
      }
      case kAppends:
      case kSetItems: {
        SLUICE_ASSIGN(const uint32_t begin, PopToMark());
        SLUICE_TRY(Want(1));
        return AddRun(begin, opcode_ == kAppends ? Kind::kList : Kind::kDict);
      }
      case kBinPut:
      case kLongBinPut: {
        SLUICE_ASSIGN(const uint64_t place, Number(opcode_ == kBinPut ? 1 : 4));
        SLUICE_TRY(Want(1));
        if (place >= kMaxPickleMemo)
          return Refuse(fmt::format("a memo of more than {}; {}", FormatCount(kMaxPickleMemo), kTooMany));
        if (place >= memo_.size()) memo_.resize(place + 1, kNothing);
        memo_[place] = stack_.back();
        return {};
      }
      case kBinGet:
      case kLongBinGet: {
        SLUICE_ASSIGN(const uint64_t place, Number(opcode_ == kBinGet ? 1 : 4));
        if (place >= memo_.size() || memo_[place] == kNothing) {
          return Malformed(fmt::format("asks for number {} of the memo, which was never put there", place));
        }
        return Push(memo_[place]);
      }
      case kGlobal:
        return StepGlobal();
      case kReduce:
      case kNewObj:
        return StepCall();
      case kBuild:
        return StepBuild();
      case kBinPersId: {
        SLUICE_TRY(Want(1));
        const Id id = Pop();
        return Push(New(Kind::kPersistent, id));
      }
      default:
        return Refuse(
            "it is not one of the opcodes that torch.save writes for a model; save the weights alone, with "
            "torch.save(model.state_dict(), ...)");
    }
  }

  // The items from `begin` on become the last of the list or dict on top of the stack.
  Result<void> AddRun(uint32_t begin, Kind kind) {
    Pickle::Node& node = pickle_.nodes_[stack_.back()];
    if (node.kind != kind) return Malformed(fmt::format("is not of a {}", kind == Kind::kList ? "list" : "dict"));
    auto& items = pickle_.items_;
    const auto size = static_cast<uint32_t>(items.size() - begin);
    if (kind == Kind::kDict) {
      if (size % 2 != 0) return Malformed("has a key without a value");
      for (uint32_t i = 0; i < size; i += 2) {
        const Kind key = pickle_.nodes_[items[begin + i]].kind;
        if (key == Kind::kList || key == Kind::kDict || key == Kind::kSet) {
          return Malformed("has a key that Python could not hash");
        }
      }
    }
    if (size == 0) return {};
    const auto run = static_cast<uint32_t>(pickle_.runs_.size());
    pickle_.runs_.push_back({begin, size, Pickle::kNoRun});
    if (node.a == Pickle::kNoRun) {
      node.a = run;
    } else {
      pickle_.runs_[node.b].next = run;
    }
    node.b = run;
    return {};
  }

  Result<void> StepGlobal() {
    std::array<std::string_view, 2> names;  // module, name
    for (std::string_view& name : names) {
      const std::string_view rest = std::string_view(pickle_.text_).substr(next_);
      const size_t size = rest.find('\n');
      if (size == std::string_view::npos) return Malformed("has no end of line after its names");
      name = rest.substr(0, size);
      next_ += size + 1;
    }
    const auto found = std::find_if(globals_.begin(), globals_.end(), [&](const PickleGlobal& global) {
      return global.module == names[0] && global.name == names[1];
    });
    if (found == globals_.end()) {
      return Fails(ErrorCode::kUnsupported,
                   fmt::format("{}.{} is refused: it is not one of the names that a file of weights needs, and nothing "
                               "of it was executed; save the weights alone, with torch.save(model.state_dict(), ...), "
                               "or use the model's safetensors files",
                               Printable(names[0]), Printable(names[1])));
    }
    return Push(New(Kind::kGlobal, static_cast<uint32_t>(found - globals_.begin())));
  }

  Result<void> StepCall() {
    SLUICE_TRY(Want(2));
    const Id arguments = Pop(), callee = Pop();
    if (pickle_.nodes_[callee].kind != Kind::kGlobal) return Malformed("calls something that is not a global name");
    const uint32_t place = pickle_.nodes_[callee].a;
    const PickleGlobal& global = globals_[place];
    const std::string name = fmt::format("{}.{}", global.module, global.name);
    if (pickle_.nodes_[arguments].kind != Kind::kTuple) {
      return Malformed(fmt::format("{} is called with something that is not a tuple", name));
    }
    if (global.role == Role::kConstant || (opcode_ == kNewObj && global.role == Role::kFunction)) {
      return Refuse(fmt::format("{} cannot be {}", name, opcode_ == kNewObj ? "constructed" : "called"));
    }
    if (global.role != Role::kDict) return Push(New(Kind::kCall, place, arguments));
    if (pickle_.nodes_[arguments].b != 0) return Refuse(fmt::format("{} with arguments", name));
    return Push(New(Kind::kDict, Pickle::kNoRun, Pickle::kNoRun, /*has_attributes=*/true));
  }

  // Attributes, _metadata of a state dict say: no weights are among them, so they are dropped.
  Result<void> StepBuild() {
    SLUICE_TRY(Want(2));
    const Id state = Pop();
    const Pickle::Node& object = pickle_.nodes_[stack_.back()];
    if (!object.has_attributes) {
      return Refuse("the object on the stack is not one that may be given attributes (a collections.OrderedDict)");
    }
    if (pickle_.nodes_[state].kind != Kind::kDict) return Malformed("attributes are not a dict");
    return {};
  }

  static constexpr Id kNothing = UINT32_MAX;
  std::span<const PickleGlobal> globals_;
  std::vector<std::string> context_;
  Pickle pickle_;
  std::vector<Id> stack_, memo_;
  std::vector<uint32_t> marks_;  // sizes of the stack
  uint64_t at_ = 0, next_ = 0;   // the opcode, and what follows it
  uint8_t opcode_ = 0;
};

Result<Pickle> Pickle::Parse(std::string text, std::span<const PickleGlobal> globals,
                             std::vector<std::string> context) {
  return PickleParser(std::move(text), globals, std::move(context)).Run();
}

int64_t Pickle::integer(Id value) const {
  const Node& node = nodes_[value];
  SLUICE_CHECK(node.kind == Kind::kInt);
  return static_cast<int64_t>(uint64_t{node.b} << 32 | node.a);
}

std::string_view Pickle::text(Id value) const {
  const Node& node = nodes_[value];
  SLUICE_CHECK(node.kind == Kind::kText || node.kind == Kind::kBytes);
  return std::string_view(text_).substr(node.a, node.b);
}

std::span<const Pickle::Id> Pickle::tuple(Id value) const {
  const Node& node = nodes_[value];
  SLUICE_CHECK(node.kind == Kind::kTuple);
  return std::span(items_).subspan(node.a, node.b);
}

std::vector<Pickle::Id> Pickle::Children(const Node& node) const {
  std::vector<Id> children;
  for (uint32_t run = node.a; run != kNoRun; run = runs_[run].next) {
    const auto first = items_.begin() + runs_[run].begin;
    children.insert(children.end(), first, first + runs_[run].size);
  }
  return children;
}

std::vector<Pickle::Id> Pickle::list(Id value) const {
  SLUICE_CHECK(nodes_[value].kind == Kind::kList);
  return Children(nodes_[value]);
}

std::vector<Pickle::Item> Pickle::dict(Id value) const {
  SLUICE_CHECK(nodes_[value].kind == Kind::kDict);
  const std::vector<Id> children = Children(nodes_[value]);
  std::vector<Item> items;
  items.reserve(children.size() / 2);
  for (size_t i = 0; i + 1 < children.size(); i += 2) items.push_back({children[i], children[i + 1]});
  return items;
}

}  // namespace sluice::formats
