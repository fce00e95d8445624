#include "verify/replay.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "generated/version.h"
#include "verify/digest_manifest.h"

namespace sluice::verify {
namespace {

using Json = nlohmann::ordered_json;

// Of the run, and of where things lie; "*" is any one key or element.
constexpr std::array<std::string_view, 19> kLeftOut = {
    "memory",
    "seconds",
    "bytes_read",
    "replay",
    "evidence",
    "behaviour.invalid",  // tells paths
    "fingerprint.bytes_read",
    "fingerprint.against",
    "config.tokenizer.problem",  // tells the path
    "summary.a.ref",
    "summary.b.ref",
    "summary.a.computed",
    "summary.b.computed",
    "summary.ref",
    "summary.signature",
    "summary.key.file",
    "summary.manifest.manifest",
    "summary.statement.ref",
    "tensors.*.place",
};

// Of numbers with a fraction: thousands of last places, and far less than one that is printed.
constexpr double kNear = 1e-12;

bool Matches(const std::vector<std::string>& path, std::string_view pattern) {
  for (const std::string& part : path) {
    const size_t end = std::min(pattern.find('.'), pattern.size());
    const std::string_view wanted = pattern.substr(0, end);
    if (pattern.empty() || (wanted != "*" && wanted != part)) return false;
    pattern.remove_prefix(std::min(end + 1, pattern.size()));
  }
  return pattern.empty();
}

const Json* At(const Json* json, const char* key) {
  return json != nullptr && json->is_object() && json->contains(key) ? &json->at(key) : nullptr;
}

// Of a matrix's rank: whether one run has sketched it and the other had no room to.
bool IsUnsure(const Json* recorded, const Json* now) {
  const Json *then_kind = At(recorded, "kind"), *now_kind = At(now, "kind");
  if (then_kind == nullptr || now_kind == nullptr) return false;
  return (*then_kind == "not_sketched") != (*now_kind == "not_sketched");
}

bool AreRanksUnsure(const Json& recorded, const Json& now) {
  const Json *then_list = At(&recorded, "tensors"), *now_list = At(&now, "tensors");
  if (then_list == nullptr || now_list == nullptr || !then_list->is_array() || !now_list->is_array()) return false;
  std::map<std::string, const Json*> ranks;
  for (const Json& tensor : *then_list) {
    const Json* name = At(&tensor, "name");
    if (name != nullptr && name->is_string()) ranks[name->get<std::string>()] = At(&tensor, "rank");
  }
  return std::ranges::any_of(*now_list, [&](const Json& tensor) {
    const Json* name = At(&tensor, "name");
    const auto found = name != nullptr && name->is_string() ? ranks.find(name->get<std::string>()) : ranks.end();
    return found != ranks.end() && IsUnsure(found->second, At(&tensor, "rank"));
  });
}

class Comparer {
 public:
  Comparer(const Json& recorded, const Json& now, ResultComparison* comparison)
      : comparison_(*comparison), ranks_unsure_(AreRanksUnsure(recorded, now)) {}

  void Compare(const Json* recorded, const Json* now, const std::string& field) {
    if (IsLeftOut(recorded, now)) return;
    if ((Matches(path_, "tensors.*.rank") && IsUnsure(recorded, now)) ||
        (ranks_unsure_ && (Matches(path_, "summary.changes.sentence") || Matches(path_, "summary.changes.ranks")))) {
      comparison_.not_compared.push_back(field);
      return;
    }
    if (recorded == nullptr || now == nullptr || recorded->type() != now->type()) {
      if (recorded != nullptr && now != nullptr && *recorded == *now) {  // 1 and 1.0
        ++comparison_.agree;
        return;
      }
      Differ(recorded, now, field);
      return;
    }
    if (recorded->is_object()) {
      CompareObjects(*recorded, *now, field);
    } else if (recorded->is_array() && (HasParts(*recorded) || HasParts(*now))) {
      CompareLists(*recorded, *now, field);
    } else if (*recorded == *now || AreNear(*recorded, *now)) {
      ++comparison_.agree;
    } else {
      Differ(recorded, now, field);
    }
  }

 private:
  // The C library's logarithms and roots may differ in the last place between processors, and so may what is made of
  // them. No change of a weight hides here: hashes tell of bits.
  static bool AreNear(const Json& recorded, const Json& now) {
    if (!recorded.is_number_float() || !now.is_number_float()) return false;
    const double x = recorded.get<double>(), y = now.get<double>();
    return std::abs(x - y) <= kNear * std::max(std::abs(x), std::abs(y));
  }

  // Others (a shape, names) are one field.
  static bool HasParts(const Json& list) {
    return std::ranges::any_of(list, [](const Json& element) { return element.is_structured(); });
  }

  // A statement's path is text, its check an object.
  bool IsLeftOut(const Json* recorded, const Json* now) const {
    if (std::ranges::any_of(kLeftOut, [&](std::string_view pattern) { return Matches(path_, pattern); })) return true;
    const bool texts = (recorded == nullptr || recorded->is_string()) && (now == nullptr || now->is_string());
    return texts && (Matches(path_, "summary.statement") || Matches(path_, "summary.statement.statement"));
  }

  void Differ(const Json* recorded, const Json* now, const std::string& field) {
    FieldDifference difference{.field = field};
    if (recorded != nullptr) difference.recorded = *recorded;
    if (now != nullptr) difference.now = *now;
    comparison_.differ.push_back(std::move(difference));
  }

  void Descend(const std::string& part, const Json* recorded, const Json* now, const std::string& field) {
    path_.push_back(part);
    Compare(recorded, now, field);
    path_.pop_back();
  }

  void CompareObjects(const Json& recorded, const Json& now, const std::string& field) {
    const std::string prefix = field.empty() ? "" : field + ".";
    for (const auto& [key, value] : recorded.items()) {
      const auto other = now.find(key);
      Descend(key, &value, other == now.end() ? nullptr : &*other, prefix + key);
    }
    for (const auto& [key, value] : now.items()) {
      if (!recorded.contains(key)) Descend(key, nullptr, &value, prefix + key);
    }
  }

  // Its elements by their names, where each has one of its own.
  static std::optional<std::map<std::string, const Json*>> ByName(const Json& list) {
    std::map<std::string, const Json*> names;
    for (const Json& element : list) {
      std::string name;
      for (const char* key : {"name", "key", "part", "token"}) {
        if (name.empty() && element.is_object() && element.contains(key) && element.at(key).is_string()) {
          name = element.at(key).get<std::string>();
        }
      }
      if (name.empty() || !names.emplace(name, &element).second) return std::nullopt;
    }
    return names;
  }

  void CompareLists(const Json& recorded, const Json& now, const std::string& field) {
    const auto then_names = ByName(recorded), now_names = ByName(now);
    if (!then_names || !now_names) {
      for (size_t i = 0; i < std::max(recorded.size(), now.size()); ++i) {
        const std::string place = std::to_string(i);
        Descend(place, i < recorded.size() ? &recorded[i] : nullptr, i < now.size() ? &now[i] : nullptr,
                fmt::format("{}[{}]", field, place));
      }
      return;
    }
    for (const auto& [name, element] : *then_names) {
      const auto other = now_names->find(name);
      Descend(name, element, other == now_names->end() ? nullptr : other->second, fmt::format("{}[{}]", field, name));
    }
    for (const auto& [name, element] : *now_names) {
      if (!then_names->contains(name)) Descend(name, nullptr, element, fmt::format("{}[{}]", field, name));
    }
  }

  ResultComparison& comparison_;
  const bool ranks_unsure_;
  std::vector<std::string> path_;
};

// Sizes, and bytes where they are known, by name; names that there are several of (a recipe's parents) in their order.
std::vector<std::string> OtherFiles(const std::vector<EvidenceInput>& recorded, const std::vector<EvidenceInput>& now) {
  std::multimap<std::string, const EvidenceInput*> there;
  for (const EvidenceInput& file : now) there.emplace(file.name, &file);
  std::vector<std::string> others;
  for (const EvidenceInput& file : recorded) {
    const auto found = there.find(file.name);
    if (found == there.end()) {
      others.push_back(file.name + " (is not there)");
    } else if (found->second->size_bytes != file.size_bytes) {
      others.push_back(
          fmt::format("{} ({} bytes, {} recorded)", file.name, found->second->size_bytes, file.size_bytes));
    } else if (file.digest && found->second->digest && *file.digest != *found->second->digest) {
      others.push_back(file.name + " (other bytes)");
    }
    if (found != there.end()) there.erase(found);
  }
  for (const auto& [name, file] : there) others.push_back(name + " (was not there)");
  return others;
}

// Blocks that were drawn from both, in the tensors that both have alike.
std::vector<std::string> OtherBlocks(const Fingerprint& recorded, const Fingerprint& now) {
  std::vector<std::string> others;
  for (size_t i = 0; i < recorded.tensors.size(); ++i) {
    const auto place = now.tensors.Find(recorded.tensors[i].name);
    if (!place || recorded.sample.strata[i].blocks != now.sample.strata[*place].blocks) continue;
    const bool same =
        std::ranges::equal(recorded.prints[i], now.prints[*place], {}, &BlockPrint::stored, &BlockPrint::stored);
    if (!same) others.emplace_back(recorded.tensors[i].name);
  }
  return others;
}

}  // namespace

ResultComparison CompareResults(const nlohmann::ordered_json& recorded, const nlohmann::ordered_json& now) {
  ResultComparison comparison;
  Comparer(recorded, now, &comparison).Compare(&recorded, &now, "");
  return comparison;
}

SideReplay CompareSides(const KnownSide& recorded, const KnownSide& now) {
  SideReplay replay;
  replay.name = recorded.side.name;
  replay.recorded_ref = recorded.side.ref;
  replay.ref = now.side.ref;
  const auto differ = [](const auto& x, const auto& y) { return x && y && *x != *y; };
  if (differ(recorded.side.config_hash, now.side.config_hash)) replay.changed.emplace_back("config");
  if (differ(recorded.side.tokenizer_hash, now.side.tokenizer_hash)) replay.changed.emplace_back("tokenizer");
  if (differ(recorded.side.headers_hash, now.side.headers_hash)) {
    replay.changed.emplace_back("names, encodings or shapes");
  }
  replay.known_by = recorded.side.headers_hash && now.side.headers_hash ? "headers" : "files";
  if (recorded.fingerprint && now.fingerprint) {
    replay.known_by = "drawn blocks and headers";
    replay.tensors = OtherBlocks(*recorded.fingerprint, *now.fingerprint);
  }
  const bool weights_known = recorded.side.weights_root && now.side.weights_root;
  if (weights_known) replay.known_by = "every byte";
  if (recorded.digest && now.digest) {
    replay.tensors.clear();
    for (const ManifestDifference& difference : CompareWithManifest(*now.digest, *recorded.digest, "").differences) {
      replay.tensors.push_back(difference.name);
    }
  }
  if (!replay.tensors.empty() || differ(recorded.side.weights_root, now.side.weights_root)) {
    replay.changed.emplace_back("weights");
  }
  if (replay.changed.empty() && differ(recorded.side.root, now.side.root)) replay.changed.emplace_back("root");
  replay.files = OtherFiles(recorded.side.files, now.side.files);
  // Where files are what was looked at, they are what must be the same.
  if (replay.known_by == "files" && !replay.files.empty()) replay.changed.emplace_back("files");
  if (!replay.changed.empty()) replay.state = SideReplay::State::kChanged;
  return replay;
}

bool Replay::models_changed() const {
  return std::ranges::any_of(sides, [](const SideReplay& side) { return side.state == SideReplay::State::kChanged; });
}

std::string Replay::Finding() const {
  if (reproduced() && results.not_compared.empty()) return "the models give what the evidence says they do";
  if (reproduced()) {
    return "the models give what the evidence says they do, but for ranks that one of the two runs had no memory to "
           "look at";
  }
  std::vector<std::string> changed;
  for (const SideReplay& side : sides) {
    if (side.state != SideReplay::State::kChanged) continue;
    const char* name = side.name == "a" ? "A" : side.name == "b" ? "B" : "the model";
    std::string text = fmt::format("{} is not as recorded: other {}", name, fmt::join(side.changed, ", "));
    if (side.tensors.size() == 1) text += fmt::format(" ({})", side.tensors.front());
    if (side.tensors.size() > 1)
      text += fmt::format(" ({} and {} more)", side.tensors.front(), side.tensors.size() - 1);
    changed.push_back(std::move(text));
  }
  if (!changed.empty()) return fmt::format("{}", fmt::join(changed, "; "));
  const bool all_read =
      std::ranges::all_of(sides, [](const SideReplay& side) { return side.known_by == "every byte"; });
  const std::string maker =
      made_by == fmt::format("sluice {}", kVersion)
          ? std::string("the result was edited")
          : fmt::format("the result was edited, or {} finds otherwise than this sluice {}", made_by, kVersion);
  if (all_read && !sides.empty()) {
    return fmt::format("every byte of the models is as recorded, and they do not give what the evidence says: {}",
                       maker);
  }
  return fmt::format(
      "what was recorded of the models is as it was, and they do not give what the evidence says: {}, or the models "
      "were changed where nothing was recorded",
      maker);
}

}  // namespace sluice::verify
