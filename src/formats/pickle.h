// Pickle: what a pickle of protocol 2 or 3 says, by a closed list of opcodes and of global names.
// docs/formats/torch.md, "The pickle", has both, and what is refused.
//
// Nothing is imported, called or executed: a global is a place in the caller's list, a call is the value "call of that
// place with these arguments". Values are numbers of places in flat arrays, shared as the pickle shares them, cycles
// included: no depth can overflow a stack, no sharing multiplies memory. Memory: under 64 MiB besides the text, by the
// limits below. Immutable once parsed; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::formats {

constexpr uint64_t kMaxPickleBytes = 64 << 20;
constexpr uint64_t kMaxPickleOpcodes = 1'000'000;
constexpr uint64_t kMaxPickleStack = 10'000;
constexpr uint64_t kMaxPickleMemo = 100'000;

// A name that a pickle may use.
struct PickleGlobal {
  enum class Role : uint8_t {
    kConstant,  // may not be called
    kFunction,  // may be called
    kClass,     // may be called, and constructed by NEWOBJ
    kDict,      // a class too; called without arguments it is an empty dict, which may be given attributes
  };
  std::string_view module, name;
  Role role = Role::kConstant;
};

class Pickle {
 public:
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,       // of 64 bits
    kLargeInt,  // of more; its value is not kept
    kFloat,
    kText,   // UTF-8
    kBytes,  // a string of protocol 2 that is not UTF-8
    kTuple,
    kList,
    kDict,
    kSet,
    kGlobal,
    kCall,        // a function or class with arguments: the result
    kPersistent,  // what a persistent id stands for
  };
  using Id = uint32_t;  // of a value
  struct Item {
    Id key, value;
  };

  // The whole of `text`, which must be one pickle; `globals` lives longer than the result. Errors have `context`, the
  // byte, the opcode and the symbol. kUnsupported: opcodes and globals that are not in the lists, limits; kCorrupt: a
  // pickle that is malformed.
  static Result<Pickle> Parse(std::string text, std::span<const PickleGlobal> globals,
                              std::vector<std::string> context);

  Id root() const { return root_; }
  Kind kind(Id value) const { return nodes_[value].kind; }
  uint64_t offset(Id value) const { return nodes_[value].offset; }     // of the opcode that made it
  bool boolean(Id value) const { return nodes_[value].a != 0; }        // of kBool
  int64_t integer(Id value) const;                                     // of kInt
  std::string_view text(Id value) const;                               // of kText, kBytes
  std::span<const Id> tuple(Id value) const;                           // of kTuple
  std::vector<Id> list(Id value) const;                                // of kList
  std::vector<Item> dict(Id value) const;                              // of kDict, in the order in which they were set
  bool is_empty(Id value) const { return nodes_[value].a == kNoRun; }  // of kList, kDict
  size_t global(Id value) const { return nodes_[value].a; }            // of kGlobal, kCall: its place in the list
  Id arguments(Id value) const { return nodes_[value].b; }             // of kCall: a tuple
  Id persistent_id(Id value) const { return nodes_[value].a; }         // of kPersistent

 private:
  friend class PickleParser;
  static constexpr uint32_t kNoRun = UINT32_MAX;
  // a, b: a number's halves; a text's place and size; a tuple's place and size in items_; a list's or dict's first and
  // last run.
  struct Node {
    Kind kind;
    bool has_attributes;  // of kDict: of a class that may have some
    uint32_t offset, a, b;
  };
  struct Run {  // items that were added to a list or dict by one opcode
    uint32_t begin, size, next;
  };
  std::vector<Id> Children(const Node& node) const;

  std::string text_;
  std::vector<Node> nodes_;
  std::vector<Id> items_;
  std::vector<Run> runs_;
  Id root_ = 0;
};

}  // namespace sluice::formats
