#include "cli/rename_options.h"

#include <algorithm>

#include <fmt/format.h>

#include "checkpoint/architecture.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/renamed_checkpoint.h"
#include "io/byte_source.h"

namespace sluice::cli {
namespace {

// Code that the folder's JSON names is never carried along: say so where something will look for it.
void TellOfCode(const Session& session, const checkpoint::Checkpoint& checkpoint) {
  for (const checkpoint::SideFile& file : checkpoint.side_files()) {
    if (file.name != "tokenizer_config.json") continue;
    const auto text = file.path.empty() ? Result<std::string>(file.bytes) : io::ReadWholeFile(file.path);
    if (!text) return;  // the writer says what is wrong with it
    const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("auto_map")) continue;
    session.Warn(fmt::format(
        "{}: tokenizer_config.json names Python code of its own ({}), which is not copied; copy that file too, or "
        "give the class of transformers that reads this tokenizer (LlamaTokenizer, for Yi) as its tokenizer_class",
        checkpoint.ref(), json["auto_map"].dump()));
  }
}

}  // namespace

void RenameOptions::Add(CLI::App& app) {
  app.add_option("--rename", renames, "Rename tensors; a * stands for characters without a dot. Repeatable")
      ->type_name("OLD=NEW")
      ->allow_extra_args(false)
      ->group("Options");
  app.add_option("--rename-file", file, "The same as a JSON object, {\"OLD\": \"NEW\", ...}")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--to", to, "Make an architecture that computes the same: llama, of Yi's first releases")
      ->type_name("TYPE")
      ->group("Options");
}

Result<std::vector<checkpoint::RenameRule>> RenameOptions::Rules() const {
  std::vector<checkpoint::RenameRule> rules;
  for (const std::string& text : renames) {
    SLUICE_ASSIGN(checkpoint::RenameRule rule, checkpoint::ParseRename(text));
    rules.push_back(std::move(rule));
  }
  if (file.empty()) return rules;
  SLUICE_ASSIGN(auto of_file, checkpoint::ReadRenameFile(file));
  std::ranges::move(of_file, std::back_inserter(rules));
  return rules;
}

Result<std::shared_ptr<const checkpoint::Checkpoint>> RenameOptions::Apply(
    const Session& session, std::shared_ptr<const checkpoint::Checkpoint> inner,
    const std::vector<checkpoint::RenameRule>& rules) const {
  if (rules.empty() && to.empty()) return inner;
  std::shared_ptr<const checkpoint::Checkpoint> renamed = inner;
  if (!rules.empty()) {
    SLUICE_ASSIGN(renamed, checkpoint::Rename(renamed, rules));
  }
  if (!to.empty()) {
    const auto* before = renamed.get();
    SLUICE_ASSIGN(renamed, checkpoint::RenameTo(renamed, to));
    if (renamed.get() == before) {
      session.Note(fmt::format("--to {} changes nothing: {} is that already", to, inner->ref()));
    } else {
      TellOfCode(session, *renamed);
    }
  }
  if (renamed->config() == nullptr) return renamed;
  std::vector<checkpoint::Problem> problems;
  checkpoint::CompareWithConfig(*renamed->config(), renamed->tensors(), "config.json", &problems);
  for (const checkpoint::Problem& problem : problems) {
    if (problem.severity == checkpoint::Problem::Severity::kNote) continue;
    session.Warn("of the output, " + problem.file + ": " + problem.message);
  }
  return renamed;
}

}  // namespace sluice::cli
