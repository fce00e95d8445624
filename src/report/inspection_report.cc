#include "report/inspection_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::CheckedFile;
using verify::Inspection;
using verify::ModelShape;

const char* SeverityName(checkpoint::Problem::Severity severity) {
  switch (severity) {
    case checkpoint::Problem::Severity::kNote:
      return "note";
    case checkpoint::Problem::Severity::kWarning:
      return "warning";
    case checkpoint::Problem::Severity::kError:
      return "error";
  }
  SLUICE_CHECK(false);
}

ordered_json OrNull(const std::optional<uint64_t>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json OrNull(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

ordered_json ShareJson(const verify::TensorShare& share) {
  return {{"tensors", share.tensors}, {"parameters", share.elements}, {"bytes", share.bytes}};
}

std::string Prediction(const Inspection& inspection) {
  if (!inspection.parameters_from_config) return "the config predicts none that we know";
  return *inspection.parameters_from_config == inspection.parameters
             ? "as the config predicts"
             : fmt::format("the config predicts {}", FormatCount(*inspection.parameters_from_config));
}

std::string ArchitectureText(const Inspection& inspection) {
  if (inspection.architecture.empty())
    return "unknown  (no config names it: the parts are inferred from the tensors' names)";
  return inspection.architecture +
         (inspection.parts_by_names ? "  (not known to sluice: the parts are inferred from the tensors' names)" : "");
}

void AddShape(const ModelShape& shape, bool layers_by_names, Table* facts) {
  const auto count = [](const std::optional<uint64_t>& value) { return value ? FormatCount(*value) : "?"; };
  if (layers_by_names) {
    facts->AddRow({"layers", count(shape.layers) + "  (inferred from the tensors' names)"});
  } else if (shape.layers) {
    facts->AddRow({"layers", fmt::format("{}, hidden size {}, feed-forward {}", count(shape.layers),
                                         count(shape.hidden), count(shape.ffn))});
  }
  if (shape.experts.value_or(0) > 1) {
    facts->AddRow({"experts", fmt::format("{} of feed-forward {}, {} of them for a token", count(shape.experts),
                                          count(shape.expert_ffn), count(shape.experts_per_token))});
  }
  if (shape.heads) {
    facts->AddRow({"heads", fmt::format("{} query, {} key/value, of {}", count(shape.heads), count(shape.kv_heads),
                                        count(shape.head_dim))});
  }
  if (shape.context) {
    std::string text = count(shape.context) + " positions";
    if (shape.window) {
      text += fmt::format("; {} of {} layers see the last {}", shape.sliding_layers, count(shape.layers),
                          count(shape.window));
    }
    facts->AddRow({"context", text});
  }
  if (shape.kv_bytes_per_token == 0u) {
    facts->AddRow({"KV cache", "none: it keeps no keys and values"});
  } else if (shape.kv_bytes_per_token) {
    std::string text = FormatBytes(*shape.kv_bytes_per_token) + " a token in f16";
    const auto whole =
        shape.context ? CheckedMultiply(*shape.context, *shape.kv_bytes_per_token, "") : Result<uint64_t>(uint64_t{0});
    if (whole && *whole > 0 && !shape.window) text += fmt::format(", {} for the whole context", FormatBytes(*whole));
    facts->AddRow({"KV cache", text});
  }
}

std::string TokenizerText(const Inspection& inspection) {
  if (!inspection.tokenizer) return "none";
  const auto& tokenizer = *inspection.tokenizer;
  return fmt::format("{}, {} tokens ({})", tokenizer.kind.empty() ? "of a kind that it does not say" : tokenizer.kind,
                     FormatCount(tokenizer.size), tokenizer.file);
}

std::string SharesText(std::string_view heading, const std::vector<std::pair<std::string, verify::TensorShare>>& shares,
                       uint64_t parameters) {
  Table table({std::string(heading), ">tensors", ">parameters", ">share", ">bytes"});
  for (const auto& [name, share] : shares) {
    table.AddRow({name, FormatCount(share.tensors), FormatCount(share.elements),
                  fmt::format("{:.1f}%", parameters == 0 ? 0.0
                                                         : 100.0 * static_cast<double>(share.elements) /
                                                               static_cast<double>(parameters)),
                  FormatBytes(share.bytes)});
  }
  return table.empty() ? "" : "\n" + table.ToString("  ");
}

}  // namespace

ordered_json InspectionJson(const Inspection& inspection) {
  ordered_json json;
  json["ref"] = inspection.ref;
  json["kind"] = inspection.kind;
  json["architecture"] = OrNull(inspection.architecture);
  json["parameters"] = inspection.parameters;
  json["parameters_from_config"] = OrNull(inspection.parameters_from_config);
  json["tensor_count"] = inspection.tensors;
  json["bytes"] = inspection.bytes;
  json["parts_from"] = inspection.parts_by_names ? "names" : "architecture";
  json["layers_from"] = inspection.layers_by_names ? ordered_json("names")
                        : inspection.shape.layers  ? ordered_json("config")
                                                   : ordered_json(nullptr);
  json["dtypes"] = ordered_json::object();
  for (const auto& [name, share] : inspection.encodings) json["dtypes"][name] = ShareJson(share);
  json["parts"] = ordered_json::object();
  for (const auto& [part, share] : inspection.parts)
    json["parts"][std::string(verify::PartName(part))] = ShareJson(share);
  const ModelShape& shape = inspection.shape;
  json["layers"] = OrNull(shape.layers);
  json["hidden_size"] = OrNull(shape.hidden);
  json["ffn_size"] = OrNull(shape.ffn);
  json["heads"] = OrNull(shape.heads);
  json["kv_heads"] = OrNull(shape.kv_heads);
  json["head_dim"] = OrNull(shape.head_dim);
  json["vocab_size"] = OrNull(shape.vocab);
  json["context"] = OrNull(shape.context);
  json["sliding_window"] = OrNull(shape.window);
  json["sliding_layers"] = shape.sliding_layers;
  json["experts"] = OrNull(shape.experts);
  json["experts_per_token"] = OrNull(shape.experts_per_token);
  json["expert_ffn_size"] = OrNull(shape.expert_ffn);
  json["kv_bytes_per_token"] = OrNull(shape.kv_bytes_per_token);
  json["tokenizer"] = nullptr;
  if (const auto& tokenizer = inspection.tokenizer) {
    json["tokenizer"] = {{"file", tokenizer->file}, {"kind", OrNull(tokenizer->kind)}, {"size", tokenizer->size}};
  }
  json["chat_template"] = OrNull(inspection.chat_template);
  json["shards"] = ordered_json::array();
  for (const auto& file : inspection.files) {
    json["shards"].push_back({{"file", file.name}, {"path", file.path}, {"bytes", file.size_bytes}});
  }
  json["side_files"] = inspection.side_files;
  json["tied"] = inspection.tied;
  json["problems"] = ordered_json::array();
  for (const checkpoint::Problem& problem : inspection.problems) {
    json["problems"].push_back({{"severity", SeverityName(problem.severity)},
                                {"file", problem.file},
                                {"tensor", problem.tensor},
                                {"message", problem.message}});
  }
  return json;
}

std::string InspectionText(const Inspection& inspection, size_t columns) {
  std::string text = fmt::format("{}  ({})\n", inspection.ref, inspection.kind);
  Table facts({"", ""});
  facts.AddRow({"architecture", ArchitectureText(inspection)});
  facts.AddRow({"parameters", fmt::format("{}  ({})", FormatCount(inspection.parameters), Prediction(inspection))});
  facts.AddRow({"tensors", fmt::format("{} in {}", FormatCount(inspection.tensors), FormatBytes(inspection.bytes))});
  AddShape(inspection.shape, inspection.layers_by_names, &facts);
  if (inspection.shape.vocab) facts.AddRow({"vocabulary", FormatCount(*inspection.shape.vocab)});
  facts.AddRow({"tokenizer", TokenizerText(inspection)});
  facts.AddRow({"chat template", inspection.chat_template.empty() ? "none" : "in " + inspection.chat_template});
  for (const std::string& name : inspection.tied) facts.AddRow({"tied", name + " is the embedding"});
  if (!inspection.side_files.empty())
    facts.AddRow({"beside them", fmt::format("{}", fmt::join(inspection.side_files, ", "))});
  text += facts.ToString("  ", columns);

  std::vector<std::pair<std::string, verify::TensorShare>> parts, encodings;
  for (const auto& [part, share] : inspection.parts) parts.emplace_back(verify::PartName(part), share);
  for (const auto& [name, share] : inspection.encodings) encodings.emplace_back(name, share);
  text += SharesText("part", parts, inspection.parameters);
  text += SharesText("encoding", encodings, inspection.parameters);

  Table files({inspection.kind == "recipe" ? "files of its parents" : "files", ">bytes"});
  for (const auto& file : inspection.files) files.AddRow({file.name, FormatBytes(file.size_bytes)});
  if (!files.empty()) text += "\n" + files.ToString("  ", columns);

  if (!inspection.problems.empty()) text += "\n";
  for (const checkpoint::Problem& problem : inspection.problems) {
    text +=
        fmt::format("  {}: {}{}{}\n", SeverityName(problem.severity), problem.file.empty() ? "" : problem.file + ": ",
                    problem.tensor.empty() ? "" : problem.tensor + ": ", problem.message);
  }
  return text;
}

ordered_json TensorListJson(const checkpoint::Catalogue& tensors, const std::vector<size_t>& places) {
  ordered_json list = ordered_json::array();
  for (const size_t i : places) {
    const checkpoint::TensorInfo tensor = tensors[i];
    list.push_back({{"name", tensor.name},
                    {"encoding", tensor.encoding.name()},
                    {"shape", std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end())},
                    {"bytes", tensor.size_bytes()}});
  }
  return list;
}

std::string TensorListText(const checkpoint::Catalogue& tensors, const std::vector<size_t>& places, size_t columns) {
  Table table({"tensor", "encoding", "shape", ">bytes"});
  for (const size_t i : places) {
    const checkpoint::TensorInfo tensor = tensors[i];
    table.AddRow({std::string(tensor.name), std::string(tensor.encoding.name()), checkpoint::ShapeText(tensor.shape),
                  FormatCount(tensor.size_bytes())});
  }
  return table.ToString("  ", columns);
}

bool MatchesGlob(std::string_view text, std::string_view glob) {
  // Greedy with one place to return to: a later star makes an earlier one's choice final.
  size_t t = 0, g = 0, star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_text = t;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t])) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

ordered_json CheckJson(const CheckResult& result) {
  const verify::FileCheck& check = result.files;
  const RootCheck& roots = result.roots;
  ordered_json json;
  json["ok"] = result.ok();
  json["folder"] = check.folder;
  json["opens"] = result.failure.message.empty();
  json["error"] = OrNull(result.failure.message);
  json["files"] = ordered_json::array();
  for (const CheckedFile& file : check.files) {
    json["files"].push_back({{"file", file.name},
                             {"bytes", file.size_bytes},
                             {"state", FileStateName(file.state)},
                             {"checked_by", OrNull(file.checked_by)},
                             {"message", file.message}});
  }
  json["statement"] = OrNull(roots.statement);
  json["tensors_checked"] = roots.tensors;
  json["changed_tensors"] = ordered_json::array();
  for (const auto& change : roots.changed) {
    json["changed_tensors"].push_back({{"name", change.tensor}, {"file", change.file}});
  }
  json["fetch_again"] = check.FetchAgain();
  json["fetch_command"] = OrNull(check.fetch_command);
  json["bytes_read"] = check.bytes_read;
  return json;
}

std::string CheckText(const CheckResult& result, size_t columns) {
  const verify::FileCheck& check = result.files;
  const RootCheck& roots = result.roots;
  const std::vector<std::string> again = check.FetchAgain();
  std::string text = fmt::format("files of {}: ", check.folder);
  text += again.empty() ? fmt::format("no damage found in {}\n", check.files.size())
                        : fmt::format("{} of {} {} not whole\n", again.size(), check.files.size(),
                                      again.size() == 1 ? "is" : "are");
  Table table({"file", ">bytes", "state", "checked by"});
  for (const CheckedFile& file : check.files) {
    std::string state = FileStateName(file.state);
    std::ranges::replace(state, '_', ' ');
    table.AddRow({file.name, FormatBytes(file.size_bytes), state, file.checked_by});
  }
  text += table.ToString("  ", columns);
  bool first = true;
  for (const CheckedFile& file : check.files) {
    if (file.message.empty()) continue;
    text += fmt::format("{}  {}: {}: {}\n", first ? "\n" : "", file.bad() ? "error" : "note", file.name, file.message);
    first = false;
  }
  if (!roots.statement.empty()) {
    text += fmt::format("\n  {} of {} tensors have the roots that {} states\n",
                        FormatCount(roots.tensors - roots.changed.size()), FormatCount(roots.tensors), roots.statement);
  }
  for (const auto& change : roots.changed) {
    text += fmt::format("  error: {}{}: its bytes are not those that were stated\n",
                        change.file.empty() ? "" : change.file + ": ", change.tensor);
  }
  if (!result.failure.message.empty()) {
    text += fmt::format("\n  the model cannot be opened: {}\n", result.failure.message);
  }
  if (again.empty()) return text;
  text += "\n  fetch again:";
  for (const std::string& name : again) text += " " + name;
  text += check.fetch_command.empty() ? ", from where they came\n" : "\n    " + check.fetch_command + "\n";
  return text;
}

}  // namespace sluice::report
