#include "merge/model_card.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/units.h"

namespace sluice::merge {
namespace {

// As YAML text in double quotes.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + "\"";
}

// As one word of a shell's line.
std::string Word(const std::string& text) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=.,:/@%#";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// In a cell of a table.
std::string Cell(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c == '|' || c == '\n' || c == '`'; }, ' ');
  return text;
}

// A fence that the recipe's own text does not end.
std::string Fenced(const std::string& text) {
  std::string fence = "```";
  while (text.find(fence) != std::string::npos) fence += '`';
  return fmt::format("{}yaml\n{}{}{}\n", fence, text, text.ends_with('\n') ? "" : "\n", fence);
}

}  // namespace

std::string ModelCard(const Statement& statement) {
  std::string card = "---\nbase_model:\n";
  for (const Statement::Parent& parent : statement.parents) card += fmt::format("- {}\n", Quoted(parent.reference));
  card += "base_model_relation: merge\nlibrary_name: transformers\ntags:\n- merge\n- mergekit\n- sluice\n---\n\n";
  card += fmt::format("# A merge of {} models\n\n", statement.parents.size());
  card += fmt::format("Made by sluice {} with the method `{}` ({} arithmetic, seed {}{}).\n\n",
                      statement.program_version, statement.method, statement.arithmetic, statement.seed,
                      statement.dtype.empty() ? "" : ", stored as " + statement.dtype);
  card += "## Parents\n\n| role | model | kind | tensors |\n|---|---|---|---|\n";
  for (const Statement::Parent& parent : statement.parents) {
    card += fmt::format("| {} | {} | {} | {} |\n", parent.is_base ? "base" : "model", Cell(parent.reference),
                        Cell(parent.kind), FormatBytes(parent.size_bytes));
  }
  card += "\n## Recipe\n\n" + Fenced(statement.recipe_text);
  for (const std::string& override : statement.recipe_overrides) {
    card += fmt::format("\nmerged with `--set {}`\n", Cell(override));
  }
  const std::string document = statement.recipe_document.empty() ? "" : "#" + statement.recipe_document;
  std::string overrides;
  for (const std::string& override : statement.recipe_overrides) overrides += " --set " + Word(override);
  card += fmt::format(
      "\n## Check it\n\nThe root of config, tokenizer and weights is `{}`; `{}` beside this file has it with those of "
      "all tensors. With the parents where the recipe names them:\n\n"
      "```sh\n"
      "sluice verify FOLDER                                # the files are those that were written\n"
      "sluice verify FOLDER --sample 0.01 --facts 0.1      # parts of it, made again from the parents\n"
      "sluice merge {} -o AGAIN --seed {} --arithmetic {}{}{}\n"
      "sluice verify FOLDER AGAIN                          # IDENTICAL\n"
      "```\n",
      statement.root, kStatementFile, Word(kRecipeFile + document), statement.seed, statement.arithmetic,
      statement.lora_merge_dtype.empty() ? "" : " --lora-merge-dtype " + statement.lora_merge_dtype, overrides);
  return card;
}

}  // namespace sluice::merge
