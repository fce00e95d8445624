// Rename rules: what `convert --rename` and `--rename-file` say, applied to names of tensors.
//
// A rule is an old name and a new one. A `*` in the old name stands for one or more characters without a dot (a layer's
// number, say), as few as fit where one part has several; the n-th `*` of the new name is what the n-th of the old one
// stood for. The rule matches whole names.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/catalogue.h"

namespace sluice::checkpoint {

struct RenameRule {
  std::string from, to;
  std::string source = {};  // for messages: "--rename", the file's path
};

// "OLD=NEW", cut at the first '='; kUsage.
Result<RenameRule> ParseRename(std::string_view text);
// A file with a JSON object {"OLD": "NEW", ...}, in its order. kUsage with the file's name, kNotFound, kRead.
Result<std::vector<RenameRule>> ReadRenameFile(const std::string& path);

// Empty names, or a new name with more stars than the old one: kUsage.
Result<void> CheckRule(const RenameRule& rule);
// nullopt where the rule does not match. Linear in the lengths.
std::optional<std::string> Renamed(const RenameRule& rule, std::string_view name);

// The new name of each tensor, by the first rule that matches it; without one it keeps its own. kUsage where a rule
// matches no tensor, two tensors would have one name, or a name would be one that safetensors reserves.
Result<std::vector<std::string>> RenamedTensors(const Catalogue& tensors, std::span<const RenameRule> rules);

}  // namespace sluice::checkpoint
