#include "merge/yaml.h"

#include <yaml.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::merge {
namespace {

using Kind = YamlNode::Kind;
using Pointer = YamlNode::Pointer;

constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

Mark MarkOf(const yaml_mark_t& mark) {
  return {static_cast<uint32_t>(mark.line + 1), static_cast<uint32_t>(mark.column + 1)};
}

std::string Text(const yaml_char_t* text) { return text ? reinterpret_cast<const char*>(text) : ""; }

// Owns a parser and the event that it gave last.
class Events {
 public:
  explicit Events(std::string_view text) {
    SLUICE_CHECK(yaml_parser_initialize(&parser_));
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  ~Events() {
    Drop();
    yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  bool Next() {
    Drop();
    has_event_ = yaml_parser_parse(&parser_, &event_) != 0;
    return has_event_;
  }
  const yaml_event_t& event() const { return event_; }

  YamlProblem problem() const {
    Mark mark = MarkOf(parser_.problem_mark);
    std::string message = parser_.problem ? parser_.problem : "not YAML";
    if (parser_.error == YAML_READER_ERROR) {
      // The reader knows a byte, not a line.
      mark = MarkOf(parser_.mark);
      message += fmt::format(" (byte {})", parser_.problem_offset);
    }
    if (parser_.context) message += fmt::format(" {}", parser_.context);
    return {mark, "not YAML: " + message};
  }

 private:
  void Drop() {
    if (has_event_) yaml_event_delete(&event_);
    has_event_ = false;
  }
  yaml_parser_t parser_;
  yaml_event_t event_;
  bool has_event_ = false;
};

// Builds the nodes of one document. After a failure nothing more is read.
class Composer {
 public:
  Composer(Events* events, std::vector<YamlProblem>* problems) : events_(events), problems_(problems) {}

  // The node that begins with the current event; null after a failure.
  Pointer Compose(uint32_t level) {
    const yaml_event_t& event = events_->event();
    const Mark mark = MarkOf(event.start_mark);
    if (event.type == YAML_ALIAS_EVENT) return Alias(Text(event.data.alias.anchor), mark);
    if (level > kMaxYamlDepth) return Fail(mark, fmt::format("nested deeper than {} levels", kMaxYamlDepth));
    auto node = std::make_shared<YamlNode>();
    node->mark = mark;
    std::string anchor;
    bool good = false;
    switch (event.type) {
      case YAML_SCALAR_EVENT:
        anchor = Text(event.data.scalar.anchor);
        good = Scalar(event, node.get());
        break;
      case YAML_SEQUENCE_START_EVENT:
        anchor = Text(event.data.sequence_start.anchor);
        good = Open(anchor, Text(event.data.sequence_start.tag), "seq", mark) && Sequence(level, node.get());
        break;
      case YAML_MAPPING_START_EVENT:
        anchor = Text(event.data.mapping_start.anchor);
        good = Open(anchor, Text(event.data.mapping_start.tag), "map", mark) && Mapping(level, node.get());
        break;
      default:
        SLUICE_CHECK(!"an event that begins no node");
    }
    if (!good) return nullptr;
    if (node->depth > kMaxYamlDepth) return Fail(mark, fmt::format("nested deeper than {} levels", kMaxYamlDepth));
    if (node->expanded > kMaxYamlNodes) {
      return Fail(mark, fmt::format("more than {} values, counting what aliases repeat", kMaxYamlNodes));
    }
    if (!anchor.empty()) anchors_[anchor] = node;
    return node;
  }

 private:
  Pointer Fail(Mark mark, std::string message) {
    problems_->push_back({mark, std::move(message)});
    return nullptr;
  }
  bool Next() {
    if (events_->Next()) return true;
    problems_->push_back(events_->problem());
    return false;
  }

  Pointer Alias(const std::string& anchor, Mark mark) {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) return Fail(mark, fmt::format("*{} names no anchor above it", anchor));
    if (!found->second) return Fail(mark, fmt::format("*{} stands within what it names", anchor));
    return found->second;
  }

  // An anchor names nothing until its node is whole.
  bool Open(const std::string& anchor, const std::string& tag, std::string_view expected, Mark mark) {
    if (!anchor.empty()) anchors_[anchor] = nullptr;
    if (tag.empty() || tag == "!" || tag == fmt::format("{}{}", kTagPrefix, expected)) return true;
    Fail(mark, fmt::format("the tag {} is not one that a recipe may have", tag));
    return false;
  }

  bool Scalar(const yaml_event_t& event, YamlNode* node) {
    const auto& scalar = event.data.scalar;
    node->text.assign(reinterpret_cast<const char*>(scalar.value), scalar.length);
    const std::string tag = Text(scalar.tag);
    if (tag.empty()) {
      node->kind = Kind::kString;
      if (scalar.plain_implicit) ResolvePlainScalar(node);
      return true;
    }
    const std::string_view name =
        tag.starts_with(kTagPrefix) ? std::string_view(tag).substr(kTagPrefix.size()) : std::string_view();
    if (tag == "!" || name == "str") {
      node->kind = Kind::kString;
      return true;
    }
    ResolvePlainScalar(node);
    if (name == "float" && node->kind == Kind::kInteger) node->kind = Kind::kFloat;
    if ((name == "float" && node->kind == Kind::kFloat) || (name == "int" && node->kind == Kind::kInteger) ||
        (name == "bool" && node->kind == Kind::kBool) || (name == "null" && node->kind == Kind::kNull)) {
      return true;
    }
    Fail(node->mark, name == "float" || name == "int" || name == "bool" || name == "null"
                         ? fmt::format("'{}' is not what its tag !!{} says", node->text, name)
                         : fmt::format("the tag {} is not one that a recipe may have", tag));
    return false;
  }

  void Count(const YamlNode& child, YamlNode* node) {
    node->depth = std::max(node->depth, child.depth + 1);
    node->expanded = std::min(node->expanded + child.expanded, kMaxYamlNodes + 1);
  }

  bool Sequence(uint32_t level, YamlNode* node) {
    node->kind = Kind::kSequence;
    while (true) {
      if (!Next()) return false;
      if (events_->event().type == YAML_SEQUENCE_END_EVENT) return true;
      Pointer item = Compose(level + 1);
      if (!item) return false;
      Count(*item, node);
      node->items.push_back(std::move(item));
      if (node->expanded > kMaxYamlNodes) return true;  // Compose refuses it
    }
  }

  bool Mapping(uint32_t level, YamlNode* node) {
    node->kind = Kind::kMapping;
    std::vector<YamlNode::Entry> own;
    std::map<std::string, Mark, std::less<>> seen;
    Pointer merged;
    while (true) {
      if (!Next()) return false;
      if (events_->event().type == YAML_MAPPING_END_EVENT) break;
      const bool plain = events_->event().type == YAML_SCALAR_EVENT && events_->event().data.scalar.plain_implicit;
      Pointer key = Compose(level + 1);
      if (!key || !Next()) return false;
      Pointer value = Compose(level + 1);
      if (!value) return false;
      Count(*key, node);
      Count(*value, node);
      if (node->expanded > kMaxYamlNodes) break;
      if (!key->is_scalar()) {
        problems_->push_back({key->mark, fmt::format("a key must be a word, not {}", KindName(key->kind))});
        continue;
      }
      const auto [place, is_new] = seen.try_emplace(key->text, key->mark);
      if (!is_new) {
        problems_->push_back({key->mark, fmt::format("'{}' is written twice: first on line {}, column {}", key->text,
                                                     place->second.line, place->second.column)});
        continue;
      }
      if (plain && key->text == "<<") {
        merged = std::move(value);
      } else {
        own.push_back({std::move(key), std::move(value)});
      }
    }
    if (merged) Merge(*merged, own, node);
    node->entries.insert(node->entries.end(), own.begin(), own.end());
    return true;
  }

  // What is merged in comes first; own keys win over it, earlier mappings of a list over later ones.
  void Merge(const YamlNode& merged, const std::vector<YamlNode::Entry>& own, YamlNode* node) {
    std::map<std::string_view, bool> taken;
    for (const YamlNode::Entry& entry : own) taken[entry.key->text] = true;
    const auto add = [&](const YamlNode& from) {
      if (from.kind != Kind::kMapping) {
        problems_->push_back(
            {from.mark, fmt::format("<< wants a mapping or a list of them, not {}", KindName(from.kind))});
        return;
      }
      for (const YamlNode::Entry& entry : from.entries) {
        if (taken.try_emplace(entry.key->text, true).second) node->entries.push_back(entry);
      }
    };
    if (merged.kind == Kind::kSequence) {
      for (const Pointer& item : merged.items) add(*item);
    } else {
      add(merged);
    }
  }

  Events* events_;
  std::vector<YamlProblem>* problems_;
  std::map<std::string, Pointer> anchors_;  // null while the node is being read
};

}  // namespace

const YamlNode* YamlNode::Find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key->text == key) return entry.value.get();
  }
  return nullptr;
}

const char* KindName(YamlNode::Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kBool:
      return "true or false";
    case Kind::kInteger:
    case Kind::kFloat:
      return "a number";
    case Kind::kString:
      return "text";
    case Kind::kSequence:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
  }
  SLUICE_CHECK(false);
}

YamlStream ParseYaml(std::string_view text) {
  YamlStream stream;
  Events events(text);
  while (true) {
    if (!events.Next()) {
      stream.problems.push_back(events.problem());
      return stream;
    }
    const yaml_event_type_t type = events.event().type;
    if (type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT) return stream;
    if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT) continue;
    SLUICE_CHECK(type == YAML_DOCUMENT_START_EVENT);
    if (!events.Next()) {
      stream.problems.push_back(events.problem());
      return stream;
    }
    Pointer root = Composer(&events, &stream.problems).Compose(1);
    if (!root) return stream;
    stream.documents.push_back(std::move(root));
  }
}

namespace {

// A copy of `node` with the rest of the path set; null and *message on failure.
Pointer Replace(const Pointer& node, std::string_view path, const Pointer& value, std::string* message) {
  if (path.empty()) return value;
  const size_t dot = path.find('.');
  const std::string_view key = path.substr(0, dot);
  const std::string_view rest = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  if (key.empty() || (dot != std::string_view::npos && rest.empty())) {
    *message = "a part of the key is empty";
    return nullptr;
  }
  auto copy = node && node->kind != Kind::kNull ? std::make_shared<YamlNode>(*node) : std::make_shared<YamlNode>();
  if (copy->kind == Kind::kNull) copy->kind = Kind::kMapping;
  if (copy->kind == Kind::kSequence) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    if (error != std::errc() || end != key.data() + key.size() || index >= copy->items.size()) {
      *message = fmt::format("'{}' is not an item of a list of {}, counted from 0", key, copy->items.size());
      return nullptr;
    }
    Pointer item = Replace(copy->items[index], rest, value, message);
    if (!item) return nullptr;
    copy->items[index] = std::move(item);
    return copy;
  }
  if (copy->kind != Kind::kMapping) {
    *message = fmt::format("'{}' is looked for in {}", key, KindName(copy->kind));
    return nullptr;
  }
  const auto entry = std::find_if(copy->entries.begin(), copy->entries.end(),
                                  [&](const YamlNode::Entry& e) { return e.key->text == key; });
  Pointer child = Replace(entry == copy->entries.end() ? nullptr : entry->value, rest, value, message);
  if (!child) return nullptr;
  if (entry != copy->entries.end()) {
    entry->value = std::move(child);
  } else {
    auto name = std::make_shared<YamlNode>();
    name->kind = Kind::kString;
    name->text = std::string(key);
    copy->entries.push_back({std::move(name), std::move(child)});
  }
  return copy;
}

// The same nodes without marks: what an override brings stands in no text.
Pointer WithoutMarks(const Pointer& node) {
  auto copy = std::make_shared<YamlNode>(*node);
  copy->mark = {};
  for (Pointer& item : copy->items) item = WithoutMarks(item);
  for (YamlNode::Entry& entry : copy->entries) entry = {WithoutMarks(entry.key), WithoutMarks(entry.value)};
  return copy;
}

}  // namespace

Pointer WithOverride(const Pointer& root, std::string_view path, std::string_view value, std::string* message) {
  const YamlStream stream = ParseYaml(value);
  if (!stream.problems.empty() || stream.documents.size() > 1) {
    *message = stream.problems.empty() ? "several documents" : stream.problems.front().message;
    return nullptr;
  }
  Pointer node = stream.documents.empty() ? std::make_shared<YamlNode>() : WithoutMarks(stream.documents[0]);
  if (std::count(path.begin(), path.end(), '.') >= kMaxYamlDepth / 2 || node->depth > kMaxYamlDepth / 2) {
    *message = "nested too deeply";
    return nullptr;
  }
  if (path.empty()) {
    *message = "a part of the key is empty";
    return nullptr;
  }
  return Replace(root, path, node, message);
}

}  // namespace sluice::merge
