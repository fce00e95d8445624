// CheckFolder: one folder held against papers of its own: the statement of a merge, a signature, or both in one read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/session.h"

namespace sluice::cli {

struct SignatureRequest {
  std::string signature, key;
  std::vector<std::string> ignored;  // paths of the model that are not looked at, beside those that the signature names
  bool allow_symlinks = false;
  std::string manifest;  // of `digest -o`: compared in the same read; empty: none
};

// Prints; returns the exit status. Without a signature the folder must have a statement (sluice_merge.json); with one,
// a statement is checked where there is one.
Result<int> CheckFolder(Session& session, const std::string& ref, const std::optional<SignatureRequest>& signature);

}  // namespace sluice::cli
