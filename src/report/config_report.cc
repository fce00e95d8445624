#include "report/config_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "checkpoint/catalogue.h"
#include "formats/recognise.h"
#include "kernels/sha256.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;

ordered_json Both(const auto& a, const auto& b) { return {{"a", a}, {"b", b}}; }
ordered_json TextOrNull(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

ordered_json KeyJson(const verify::KeyDifference& key) {
  ordered_json json = {{"key", key.key}, {"a", TextOrNull(key.a)}, {"b", TextOrNull(key.b)}};
  if (!key.file.empty()) json["file"] = key.file;
  return json;
}

ordered_json TokenSetJson(const verify::TokenSetDiff& diff) {
  ordered_json json = {{"relation", verify::SetRelationName(diff.Relation())},
                       {"size", Both(diff.size_a, diff.size_b)},
                       {"common", diff.common},
                       {"moved", diff.moved},
                       {"only_in_a", diff.only_in_a},
                       {"only_in_b", diff.only_in_b}};
  json["first"] = ordered_json::array();
  const auto id = [](std::optional<uint32_t> value) { return value ? ordered_json(*value) : ordered_json(nullptr); };
  for (const auto& token : diff.first) {
    json["first"].push_back({{"token", token.token}, {"a", id(token.a)}, {"b", id(token.b)}});
  }
  return json;
}

ordered_json TokenizerJson(const verify::TokenizerDiff& diff) {
  ordered_json json = {{"present", Both(diff.in_a, diff.in_b)}};
  if (diff.compared) {
    json["tokens"] = TokenSetJson(diff.tokens);
    json["added_tokens"] = TokenSetJson(diff.added);
  }
  if (diff.merges) {
    json["merges"] = {{"relation", verify::SetRelationName(diff.merges->Relation())},
                      {"size", Both(diff.merges->size_a, diff.merges->size_b)}};
    const auto& first = diff.merges->first_difference;
    json["merges"]["first_difference"] = first ? ordered_json(*first) : ordered_json(nullptr);
  }
  json["chat_template"] = verify::TemplateDiffName(diff.chat_template);
  json["settings"] = ordered_json::array();
  for (const auto& key : diff.settings) json["settings"].push_back(KeyJson(key));
  if (!diff.problem_a.empty() || !diff.problem_b.empty()) {
    json["problem"] = {{"a", TextOrNull(diff.problem_a)}, {"b", TextOrNull(diff.problem_b)}};
  }
  return json;
}

std::string ConfigFinding(const verify::ConfigDiff& config) {
  if (config.has_config_a != config.has_config_b) {
    return fmt::format("{} has no config.json", config.has_config_a ? "B" : "A");
  }
  if (config.SameConfig())
    return config.architecture_a.empty() ? "none on either side" : "same, " + config.architecture_a;
  const auto architectural = std::ranges::count_if(config.keys, &verify::KeyDifference::architectural);
  return fmt::format("{} of its keys differ{}, {} of them change{} the forward pass", config.keys.size(),
                     config.keys.size() == 1 ? "s" : "", architectural, architectural == 1 ? "s" : "");
}

std::string TokenizerFinding(const verify::ConfigDiff& config) {
  if (config.SameTokenizer()) return config.tokenizer_hash_a == kernels::HashText("") ? "none on either side" : "same";
  if (!config.tokenizer) return "other files";  // a fingerprint has no more than their hash
  const verify::TokenizerDiff& diff = *config.tokenizer;
  if (diff.in_a != diff.in_b) return fmt::format("only in {}", diff.in_a ? "A" : "B");
  if (!diff.compared) return "other files";
  std::string text;
  const verify::TokenSetDiff& tokens = diff.tokens;
  switch (tokens.Relation()) {
    case verify::SetRelation::kEqual:
      text = fmt::format("the same {} tokens", FormatCount(tokens.size_a));
      break;
    case verify::SetRelation::kExtended:
      text = fmt::format("B has A's {} tokens and {} more", FormatCount(tokens.size_a), FormatCount(tokens.only_in_b));
      break;
    case verify::SetRelation::kReduced:
      text = fmt::format("A has B's {} tokens and {} more", FormatCount(tokens.size_b), FormatCount(tokens.only_in_a));
      break;
    case verify::SetRelation::kDiffers:
      text = fmt::format("{} of A's {} tokens are not B's", FormatCount(tokens.size_a - tokens.common),
                         FormatCount(tokens.size_a));
      break;
  }
  std::vector<std::string> others;
  if (diff.merges && diff.merges->Relation() != verify::SetRelation::kEqual) others.emplace_back("merges");
  if (diff.added.Relation() == verify::SetRelation::kDiffers) others.emplace_back("added tokens");
  if (diff.chat_template != verify::TemplateDiff::kEqual && diff.chat_template != verify::TemplateDiff::kNone) {
    others.emplace_back("chat template");
  }
  if (!diff.settings.empty()) others.emplace_back("settings");
  return others.empty() ? text + ", in other files" : fmt::format("{}; other {}", text, fmt::join(others, ", "));
}

std::string ShapesFinding(const verify::ConfigDiff& config) {
  if (config.SameTensorSet() && config.possibly_tied.empty()) {
    return fmt::format("same {} tensors, {} parameters", FormatCount(config.num_tensors_a),
                       FormatCount(config.parameters_a));
  }
  std::vector<std::string> parts;
  if (!config.shapes.empty()) parts.push_back(fmt::format("{} of another shape", config.shapes.size()));
  if (!config.only_in_a.empty()) parts.push_back(fmt::format("{} only in A", config.only_in_a.size()));
  if (!config.only_in_b.empty()) parts.push_back(fmt::format("{} only in B", config.only_in_b.size()));
  if (!config.possibly_tied.empty()) parts.push_back(config.possibly_tied.front() + " on one side, perhaps tied");
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string EncodingFinding(const verify::ConfigDiff& config) {
  std::vector<std::string> parts;
  parts.reserve(config.encodings.size());
  for (const auto& [pair, count] : config.encodings) {
    parts.push_back(pair.first == pair.second ? fmt::format("{} {}", count, pair.first)
                                              : fmt::format("{} {} against {}", count, pair.first, pair.second));
  }
  return parts.empty() ? "no tensors" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string Cut(std::string text) {
  constexpr size_t kMost = 60;
  if (text.size() > kMost) text = text.substr(0, kMost - 1) + "…";
  return text.empty() ? "-" : text;
}

std::string MoreText(uint64_t more) { return fmt::format("... and {} more; --json lists all", FormatCount(more)); }

Table KeysTable(const char* title, const std::vector<verify::KeyDifference>& keys, const char* meaning) {
  Table table({title, "A", "B", ""});
  for (size_t i = 0; i < std::min(keys.size(), kMostRows); ++i) {
    const verify::KeyDifference& key = keys[i];
    const std::string name = key.file.empty() ? key.key : fmt::format("{} ({})", key.key, key.file);
    table.AddRow({name, Cut(key.a), Cut(key.b), key.architectural ? "changes the forward pass" : meaning});
  }
  if (keys.size() > kMostRows) table.SetNote(MoreText(keys.size() - kMostRows));
  return table;
}

Table TokensTable(const char* title, const verify::TokenSetDiff& diff) {
  Table table({title, ">in A", ">in B"});
  const auto id = [](std::optional<uint32_t> value) { return value ? fmt::format("{}", *value) : std::string("-"); };
  for (const auto& token : diff.first) table.AddRow({Cut(formats::Printable(token.token)), id(token.a), id(token.b)});
  const uint64_t all = diff.moved + diff.only_in_a + diff.only_in_b;
  if (all > diff.first.size()) table.SetNote(fmt::format("... and {} more", FormatCount(all - diff.first.size())));
  return table;
}

void AddTokenizerTables(const verify::TokenizerDiff& diff, std::vector<Table>* tables) {
  Table table({"of the tokenizer", ">A", ">B", "B is"});
  const auto add = [&](const char* what, uint64_t a, uint64_t b, verify::SetRelation relation) {
    table.AddRow({what, FormatCount(a), FormatCount(b), verify::SetRelationName(relation)});
  };
  if (diff.compared) {
    add("tokens", diff.tokens.size_a, diff.tokens.size_b, diff.tokens.Relation());
    add("added tokens", diff.added.size_a, diff.added.size_b, diff.added.Relation());
  }
  if (diff.merges) add("merges", diff.merges->size_a, diff.merges->size_b, diff.merges->Relation());
  std::string chat = verify::TemplateDiffName(diff.chat_template);
  if (diff.chat_template == verify::TemplateDiff::kOnlyInA) chat = "only in A";
  if (diff.chat_template == verify::TemplateDiff::kOnlyInB) chat = "only in B";
  if (diff.chat_template != verify::TemplateDiff::kNone) table.AddRow({"chat template", "", "", chat});
  tables->push_back(std::move(table));
  tables->push_back(TokensTable("token", diff.tokens));
  if (diff.added.first != diff.tokens.first) tables->push_back(TokensTable("added token", diff.added));
  tables->push_back(KeysTable("setting of the tokenizer", diff.settings, ""));
  Table problems({"tokenizer that cannot be compared", ""});
  if (!diff.problem_a.empty()) problems.AddRow({"A", diff.problem_a});
  if (!diff.problem_b.empty()) problems.AddRow({"B", diff.problem_b});
  tables->push_back(std::move(problems));
}

}  // namespace

void NoteMore(size_t count, Table* table) {
  if (count > kMostRows) table->SetNote(MoreText(count - kMostRows));
}

ordered_json ConfigJson(const verify::ConfigDiff& config) {
  ordered_json json;
  json["same_architecture"] = config.SameArchitecture();
  json["same_config"] = config.SameConfig();
  json["same_tokenizer"] = config.SameTokenizer();
  json["same_encodings"] = config.SameEncodings();
  json["architecture"] = {{"a", TextOrNull(config.architecture_a)}, {"b", TextOrNull(config.architecture_b)}};
  json["parameters"] = Both(config.parameters_a, config.parameters_b);
  json["parts"] = ordered_json::object();
  for (const auto& [part, counts] : config.parts) {
    json["parts"][std::string(verify::PartName(part))] = Both(counts.first, counts.second);
  }
  json["tensors"] = Both(config.num_tensors_a, config.num_tensors_b);
  json["bytes"] = Both(config.bytes_a, config.bytes_b);
  json["keys"] = ordered_json::array();
  for (const auto& key : config.keys) {
    json["keys"].push_back(KeyJson(key));
    json["keys"].back()["architectural"] = key.architectural;
  }
  for (const auto& [name, keys] :
       {std::pair("idle_keys", &config.idle_keys), {"generation_config", &config.generation}}) {
    json[name] = ordered_json::array();
    for (const auto& key : *keys) json[name].push_back(KeyJson(key));
  }
  json["tokenizer"] = config.tokenizer ? TokenizerJson(*config.tokenizer) : ordered_json(nullptr);
  json["side_files"] = ordered_json::array();
  for (const auto& file : config.side_files) {
    json["side_files"].push_back(
        {{"name", file.name}, {"in_a", file.in_a}, {"in_b", file.in_b}, {"tokenizer", file.tokenizer}});
  }
  json["shapes"] = ordered_json::array();
  for (const auto& shape : config.shapes)
    json["shapes"].push_back({{"name", shape.name}, {"a", shape.a}, {"b", shape.b}});
  json["only_in_a"] = config.only_in_a;
  json["only_in_b"] = config.only_in_b;
  json["possibly_tied"] = config.possibly_tied;
  json["encodings"] = ordered_json::array();
  for (const auto& [pair, count] : config.encodings) {
    json["encodings"].push_back({{"a", pair.first}, {"b", pair.second}, {"tensors", count}});
  }
  return json;
}

void AddConfigRows(const verify::ConfigDiff& config, Table* table) {
  table->AddRow({"config", ConfigFinding(config), "the same effective config", "anything about weights"});
  table->AddRow({"tokenizer", TokenizerFinding(config), "the same tokenizer files", "anything about weights"});
  table->AddRow({"headers", ShapesFinding(config), "the same names and shapes", "anything about weights"});
  table->AddRow({"encodings", EncodingFinding(config), "the same number formats", "anything about weights"});
}

std::vector<Table> ConfigTables(const verify::ConfigDiff& config, bool with_parts) {
  std::vector<Table> tables = {KeysTable("key of the config", config.keys, ""),
                               KeysTable("key of the config", config.idle_keys, "changes nothing"),
                               KeysTable("key of generation_config", config.generation, "")};
  if (config.tokenizer) AddTokenizerTables(*config.tokenizer, &tables);
  Table files({"file beside the weights", "", ""});
  for (const auto& file : config.side_files) {
    files.AddRow({file.name,
                  file.in_a && file.in_b ? "differs"
                  : file.in_a            ? "only in A"
                                         : "only in B",
                  file.tokenizer ? "tokenizer" : ""});
  }
  tables.push_back(std::move(files));
  const auto same = [](const auto& part) { return part.second.first == part.second.second; };
  Table parts({"parameters of", ">A", ">B"});
  if (with_parts || !std::ranges::all_of(config.parts, same)) {
    for (const auto& [part, counts] : config.parts) {
      parts.AddRow({std::string(verify::PartName(part)), FormatCount(counts.first), FormatCount(counts.second)});
    }
  }
  tables.push_back(std::move(parts));
  Table tensors({"tensor", "A", "B"});
  size_t rows = 0;
  const auto add = [&](std::string name, std::string a, std::string b) {
    if (rows++ < kMostRows) tensors.AddRow({std::move(name), std::move(a), std::move(b)});
  };
  for (const auto& shape : config.shapes) {
    add(shape.name, checkpoint::ShapeText(shape.a), checkpoint::ShapeText(shape.b));
  }
  for (const auto& name : config.only_in_a) add(name, "has it", "-");
  for (const auto& name : config.only_in_b) add(name, "-", "has it");
  NoteMore(rows, &tensors);
  tables.push_back(std::move(tensors));
  return tables;
}

}  // namespace sluice::report
