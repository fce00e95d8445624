#include "cli/command.h"

#include <algorithm>
#include <array>

#include "generated/commands_table.inc"

namespace sluice::cli {

std::vector<const Command*> AllCommands() {
  std::vector<const Command*> all;
  all.reserve(commands::kTable.size());
  for (const auto& command : commands::kTable) all.push_back(&command());
  std::ranges::sort(all, {}, &Command::name);
  return all;
}

bool IsPlannedCommand(std::string_view name) {
  static constexpr std::array kPlanned = {"chat", "generate", "quantize", "recall", "seal", "serve", "sweep"};
  return std::ranges::find(kPlanned, name) != kPlanned.end();
}

void RefusedOptions::Add(CLI::App& app, std::string name, bool takes_value) {
  // An empty group hides it from --help.
  CLI::Option* option = takes_value ? app.add_option(name)->expected(0, 1) : app.add_flag(name);
  option->group("");
  options_.emplace_back(std::move(name), option);
}

Result<void> RefusedOptions::Check() const {
  for (const auto& [name, option] : options_) {
    if (option->count() > 0) return Fail(ErrorCode::kUnsupported, name + " is not supported yet");
  }
  return {};
}

}  // namespace sluice::cli
