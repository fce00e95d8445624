// Command: one subcommand of sluice. A file src/cli/commands/NAME.cc defines `const Command& NAME()`, and the build
// finds it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "cli/session.h"

namespace sluice::cli {

// Runs after the arguments were read; returns the exit status of a run that did its work (0, 1 or 5).
using Action = std::function<Result<int>(Session&)>;

struct Command {
  std::string_view name;      // "verify"
  std::string_view summary;   // one line, for the list of commands
  std::string_view synopsis;  // "verify A B [options]"
  std::string_view details;   // behind the options in --help: what it does, examples
  // Adds its options and arguments to `app` (the common ones are there) and returns what runs it. The values live in
  // the Action.
  Action (*declare)(CLI::App& app);
};

// All of them, sorted by name.
std::vector<const Command*> AllCommands();

// Commands that scripts may one day rely on and that this version does not have.
bool IsPlannedCommand(std::string_view name);

// Options that are known and not supported yet: accepted by the parser, so that the refusal can name them.
class RefusedOptions {
 public:
  // `takes_value`: the option swallows the next argument.
  void Add(CLI::App& app, std::string name, bool takes_value = true);
  // kUnsupported, naming the first that was given.
  Result<void> Check() const;

 private:
  std::vector<std::pair<std::string, CLI::Option*>> options_;
};

}  // namespace sluice::cli
