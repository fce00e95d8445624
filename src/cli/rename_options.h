// RenameOptions: --rename, --rename-file and --to of `convert`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/rename_rules.h"
#include "cli/session.h"

namespace sluice::cli {

struct RenameOptions {
  std::vector<std::string> renames;
  std::string file, to;

  // This must live as long as `app` reads arguments.
  void Add(CLI::App& app);
  // The rules, those of the command line first. Reads the file, no model.
  Result<std::vector<checkpoint::RenameRule>> Rules() const;
  // `inner` renamed by the rules, then as --to says. Tells on stderr what the output's config does not predict.
  Result<std::shared_ptr<const checkpoint::Checkpoint>> Apply(const Session& session,
                                                              std::shared_ptr<const checkpoint::Checkpoint> inner,
                                                              const std::vector<checkpoint::RenameRule>& rules) const;
};

}  // namespace sluice::cli
