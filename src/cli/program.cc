#include "cli/program.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/memory_budget.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/session.h"
#include "generated/version.h"
#include "merge/diagnostics.h"

namespace sluice::cli {
namespace {

constexpr int kMaxThreads = 4096;

constexpr char kIntroduction[] =
    "sluice: merges, verifies and measures LLM checkpoints that do not fit in memory.\n"
    "\n"
    "A model is a folder, an x.safetensors, an x.gguf, an x.safetensors.index.json, or a recipe.yml: a recipe is the\n"
    "checkpoint that it makes, computed as it is read, and goes wherever a model goes.\n";

constexpr char kOutro[] =
    "\n"
    "sluice COMMAND --help tells the options. Common to all: --json, --quiet, --threads N, --max-memory SIZE, "
    "--dry-run.\n"
    "Exit status: 0 done or same, 1 different, 2 bad request, 3 unreadable input, 4 memory budget cannot be met,\n"
    "5 undecided, 6 output could not be written, 130 interrupted.\n"
    "\n"
    "  sluice merge recipe.yml -o merged/            a mergekit recipe, in bounded memory\n"
    "  sluice verify merged/ recipe.yml              ... and the proof that this is what the recipe makes\n"
    "  sluice digest model/                          one number for a model, whatever its shards\n";

std::string GeneralUsage() {
  std::string text = kIntroduction;
  text += "\nusage: sluice COMMAND [arguments]\n\n";
  for (const Command* command : AllCommands()) text += fmt::format("  {:<12} {}\n", command->name, command->summary);
  return text + kOutro;
}

const Command* FindCommand(std::string_view name) {
  const std::vector<const Command*> all = AllCommands();
  const auto found = std::ranges::find(all, name, &Command::name);
  return found == all.end() ? nullptr : *found;
}

Error UnknownCommand(const std::string& name) {
  if (IsPlannedCommand(name)) {
    return {ErrorCode::kUnsupported,
            fmt::format("the command '{}' is not supported yet; `sluice --help` lists those that are", name),
            {}};
  }
  std::vector<std::string_view> names;
  for (const Command* command : AllCommands()) names.push_back(command->name);
  if (name.starts_with("-")) {
    return {ErrorCode::kUsage,
            fmt::format("'{}' comes before the command; options follow it, as in `sluice digest model/ --json`", name),
            {}};
  }
  return {ErrorCode::kUsage,
          fmt::format("there is no command '{}'{}; `sluice --help` lists them", name, merge::DidYouMean(name, names)),
          {}};
}

// "--out-shard-sise" and the like: the nearest option that the command has.
Error UnknownArgument(const CLI::App& app, const std::string& argument) {
  if (!argument.starts_with("-") || argument == "-") {
    return {ErrorCode::kUsage, fmt::format("'{}' is one argument too many", argument), {}};
  }
  const std::string name = argument.substr(0, argument.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    for (const std::string& known : option->get_lnames()) names.push_back("--" + known);
  }
  std::vector<std::string_view> views(names.begin(), names.end());
  return {ErrorCode::kUsage, fmt::format("unknown option '{}'{}", name, merge::DidYouMean(name, views)), {}};
}

// "  -t,--threads N    Threads that compute", wrapped at 100 columns.
std::string OptionLine(const CLI::Option& option) {
  constexpr size_t kColumn = 28, kWidth = 72;
  std::string name = option.get_positional() ? option.get_name(true) : option.get_name(false, true);
  if (!option.get_positional() && option.get_items_expected_max() > 0) {
    const std::string type = option.get_type_name();  // "N:INT in [1 - 4096]": what checks say stays out
    name += " " + type.substr(0, type.find(':'));
  }
  std::string text = "  " + name;
  if (text.size() + 2 > kColumn) {
    text += "\n" + std::string(kColumn, ' ');
  } else {
    text.resize(kColumn, ' ');
  }
  size_t used = 0;
  std::string_view words = option.get_description();
  while (!words.empty()) {
    const size_t length = std::min(words.find(' '), words.size());
    if (used > 0 && used + 1 + length > kWidth) {
      text += "\n" + std::string(kColumn, ' ');
      used = 0;
    } else if (used > 0) {
      text += ' ';
      ++used;
    }
    text += words.substr(0, length);
    used += length;
    words.remove_prefix(std::min(length + 1, words.size()));
  }
  return text + "\n";
}

std::string HelpText(const Command& command, const CLI::App& app) {
  std::string text = fmt::format("usage: sluice {}\n\n{}.\n", command.synopsis, command.summary);
  std::vector<std::string> groups;
  for (const CLI::Option* option : app.get_options()) {
    const std::string& group = option->get_group();
    if (!group.empty() && std::ranges::find(groups, group) == groups.end()) groups.push_back(group);
  }
  for (const std::string& group : groups) {
    text += "\n" + group + ":\n";
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group() == group) text += OptionLine(*option);
    }
  }
  return fmt::format("{}\n{}", text, command.details);
}

struct RawCommon {
  bool json = false, quiet = false, dry_run = false, version = false;
  int threads = 0;
  std::string max_memory;
};

void AddCommonOptions(CLI::App& app, RawCommon* raw) {
  constexpr char kGroup[] = "Common options";
  app.set_help_flag("-h,--help", "This text")->group(kGroup);
  app.add_flag("--version", raw->version, "The version of sluice")->group(kGroup);
  app.add_flag("--json", raw->json, "The result as one JSON object on stdout; errors too")->group(kGroup);
  app.add_flag("--quiet", raw->quiet, "No plan, no progress")->group(kGroup);
  app.add_flag("--dry-run", raw->dry_run, "Plan only: bytes in and out, peak memory, time")->group(kGroup);
  app.add_option("-t,--threads", raw->threads, "Threads that compute (default: all cores)")
      ->type_name("N")
      ->check(CLI::Range(1, kMaxThreads))
      ->group(kGroup);
  app.add_option("--max-memory", raw->max_memory,
                 "Most that the whole process may hold resident, as 4GiB or 900M (default: half of what is free)")
      ->type_name("SIZE")
      ->group(kGroup);
}

Result<CommonOptions> ReadCommon(const RawCommon& raw) {
  CommonOptions common{.json = raw.json, .quiet = raw.quiet, .dry_run = raw.dry_run};
  common.threads = raw.threads > 0 ? raw.threads : DefaultThreads();
  common.max_memory_bytes = AvailableMemoryBytes() / 2;
  if (!raw.max_memory.empty()) {
    auto parsed = ParseSize(raw.max_memory);
    if (!parsed) return Fail(std::move(parsed.error()).In("--max-memory"));
    common.max_memory_bytes = *parsed;
  }
  return common;
}

int Tell(const Error& error, bool json) {
  TellError(error, json);
  return ExitStatus(error.code);
}

int UsageError(const Command& command, Error error, bool json) {
  TellError(error, json);
  fmt::print(stderr, "usage: sluice {}\n       sluice {} --help tells more\n", command.synopsis, command.name);
  return ExitStatus(error.code);
}

int RunCommand(const Command& command, std::vector<std::string> arguments, const std::atomic<bool>& cancelled) {
  bool json = std::ranges::find(arguments, "--json") != arguments.end();  // for what goes wrong before parsing ends
  CLI::App app(std::string(command.summary), fmt::format("sluice {}", command.name));
  app.allow_extras();
  RawCommon raw;
  const Action action = command.declare(app);
  AddCommonOptions(app, &raw);
  try {
    std::ranges::reverse(arguments);  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", HelpText(command, app));
    return 0;
  } catch (const CLI::ParseError& error) {
    if (raw.version) {
      fmt::print("sluice {}\n", kVersion);
      return 0;
    }
    if (const std::vector<std::string> left = app.remaining(); !left.empty()) {
      return UsageError(command, UnknownArgument(app, left.front()), json);
    }
    return UsageError(command, Error{ErrorCode::kUsage, error.what(), {}}, json);
  }
  if (raw.version) {
    fmt::print("sluice {}\n", kVersion);
    return 0;
  }
  if (const std::vector<std::string> left = app.remaining(); !left.empty()) {
    return UsageError(command, UnknownArgument(app, left.front()), json);
  }
  json = raw.json;
  const Result<CommonOptions> common = ReadCommon(raw);
  if (!common) return UsageError(command, common.error(), json);

  Session session(std::string(command.name), *common, cancelled);
  const Result<int> status = action(session);
  if (!status && status.error().code == ErrorCode::kUsage) return UsageError(command, status.error(), json);
  if (!status) return Tell(status.error(), json);
  if (session.print_errno() == EPIPE) return ExitStatus(ErrorCode::kWrite);  // `| head`: it knows
  if (session.print_errno() != 0) {
    return Tell({ErrorCode::kWrite,
                 fmt::format("the result could not be written to stdout: {}", std::strerror(session.print_errno())),
                 {}},
                false);
  }
  return *status;
}

}  // namespace

void TellError(const Error& error, bool json) {
  if (error.code == ErrorCode::kRecipe && !error.context.empty()) {
    fmt::print(stderr, "sluice: error: {}\n", error.message);
    for (const std::string& line : error.context) fmt::print(stderr, "  {}\n", line);
  } else {
    fmt::print(stderr, "sluice: error: {}\n", error.ToString());
  }
  if (!json) return;
  nlohmann::ordered_json object;
  object["schema"] = "sluice/error/v1";
  object["code"] = CodeName(error.code);
  object["message"] = error.message;
  object["context"] = error.context;
  const std::string text = object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

int RunProgram(const std::vector<std::string>& arguments, const std::atomic<bool>& cancelled) {
  const bool json = std::ranges::find(arguments, "--json") != arguments.end();
  try {
    if (arguments.empty()) {
      fmt::print(stderr, "{}", GeneralUsage());
      return ExitStatus(ErrorCode::kUsage);
    }
    const std::string& first = arguments.front();
    if (first == "--version" || first == "version") {
      fmt::print("sluice {}\n", kVersion);
      return 0;
    }
    if (first == "--help" || first == "-h" || first == "help") {
      const Command* about = first == "help" && arguments.size() > 1 ? FindCommand(arguments[1]) : nullptr;
      if (about != nullptr) return RunCommand(*about, {"--help"}, cancelled);
      if (first == "help" && arguments.size() > 1) return Tell(UnknownCommand(arguments[1]), json);
      fmt::print("{}", GeneralUsage());
      return 0;
    }
    const Command* command = FindCommand(first);
    if (command == nullptr) return Tell(UnknownCommand(first), json);
    return RunCommand(*command, {arguments.begin() + 1, arguments.end()}, cancelled);
  } catch (const std::bad_alloc&) {
    return Tell({ErrorCode::kBudget, "the system gave no more memory; try a smaller --max-memory", {}}, json);
  }
}

}  // namespace sluice::cli
