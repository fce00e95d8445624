// A small document model of YAML over libyaml's events: every node knows its line and column, scalars are resolved by
// the rules of YAML 1.1 as PyYAML has them (yes, on, 0x1F and 1:30 are what they are there; 1e-3 is a string; what is
// quoted stays a string). Anchors, aliases and merge keys (<<) work; a key written twice in one mapping is a problem.
//
// Bounded: kMaxDepth levels and kMaxNodes nodes, aliases counted as if they were written out. No files, no exceptions.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::merge {

// Line and column count from 1, columns in characters. Line 0: from no text (an override).
struct Mark {
  uint32_t line = 0, column = 0;
  auto operator<=>(const Mark&) const = default;
};

struct YamlNode {
  enum class Kind { kNull, kBool, kInteger, kFloat, kString, kSequence, kMapping };
  using Pointer = std::shared_ptr<const YamlNode>;
  struct Entry {
    Pointer key, value;  // the key is a scalar
  };

  Kind kind = Kind::kNull;
  Mark mark;
  std::string text;                 // a scalar as written, without its quotes
  bool boolean = false;             // kBool
  double number = 0;                // kInteger, kFloat
  std::optional<uint64_t> integer;  // kInteger from 0 to 2^64 - 1
  std::vector<Pointer> items;       // kSequence
  std::vector<Entry> entries;       // kMapping: merged ones first, then its own, in order
  uint32_t depth = 1;               // levels below and including this one
  uint64_t expanded = 1;            // nodes, aliases written out

  bool is_scalar() const { return kind != Kind::kSequence && kind != Kind::kMapping; }
  const YamlNode* Find(std::string_view key) const;  // of a mapping; null where there is none
};

const char* KindName(YamlNode::Kind kind);  // "a number", "a list", ...

struct YamlProblem {
  Mark mark;
  std::string message;
};

struct YamlStream {
  std::vector<YamlNode::Pointer> documents;  // as many as could be read; an empty one is kNull
  std::vector<YamlProblem> problems;         // all repeated keys; reading stops at the first error of syntax
};

constexpr uint32_t kMaxYamlDepth = 64;
constexpr uint64_t kMaxYamlNodes = 100'000;

YamlStream ParseYaml(std::string_view text);

// A scalar that is written plain, without quotes, resolved. Sets kind and value of a node.
void ResolvePlainScalar(YamlNode* node);

// `root` with the value at `path` replaced or added: keys and list indices joined by dots ("parameters.density",
// "models.1.parameters.weight"). The value is read as YAML. Nodes are shared with `root`, which stays as it is. Null
// and *message where the path leads nowhere or the value is not YAML.
YamlNode::Pointer WithOverride(const YamlNode::Pointer& root, std::string_view path, std::string_view value,
                               std::string* message);

}  // namespace sluice::merge
