#include "report/model_report.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "kernels/sha256.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;

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

std::string Plural(uint64_t n, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", FormatCount(n), n == 1 ? one : many);
}

double Rate(uint64_t bytes, double seconds) { return static_cast<double>(bytes) / std::max(seconds, 1e-3); }

ordered_json FilesJson(const std::vector<checkpoint::WrittenFile>& files) {
  ordered_json list = ordered_json::array();
  for (const checkpoint::WrittenFile& file : files) list.push_back({{"file", file.name}, {"bytes", file.size_bytes}});
  return list;
}

std::string FilesText(const std::vector<checkpoint::WrittenFile>& files) {
  Table table({"", ">"});
  for (const checkpoint::WrittenFile& file : files) table.AddRow({file.name, FormatBytes(file.size_bytes)});
  return table.ToString("  ");
}

}  // namespace

ordered_json InspectionJson(const verify::Inspection& inspection) {
  ordered_json json;
  json["ref"] = inspection.ref;
  json["kind"] = inspection.kind;
  json["architecture"] =
      inspection.architecture.empty() ? ordered_json(nullptr) : ordered_json(inspection.architecture);
  json["parameters"] = inspection.parameters;
  json["parameters_from_config"] =
      inspection.parameters_from_config ? ordered_json(*inspection.parameters_from_config) : ordered_json(nullptr);
  json["tensor_count"] = inspection.tensors;
  json["bytes"] = inspection.bytes;
  json["dtypes"] = ordered_json::object();
  for (const auto& [name, share] : inspection.encodings) {
    json["dtypes"][name] = {{"tensors", share.tensors}, {"parameters", share.elements}, {"bytes", share.bytes}};
  }
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

std::string InspectionText(const verify::Inspection& inspection) {
  std::string text = fmt::format("{}  ({})\n", inspection.ref, inspection.kind);
  Table facts({"", ""});
  facts.AddRow(
      {"architecture", inspection.architecture.empty() ? "unknown (no config.json)" : inspection.architecture});
  std::string prediction = "the config predicts none that we know";
  if (inspection.parameters_from_config) {
    prediction = *inspection.parameters_from_config == inspection.parameters
                     ? "as the config predicts"
                     : fmt::format("the config predicts {}", FormatCount(*inspection.parameters_from_config));
  }
  facts.AddRow({"parameters", fmt::format("{}  ({})", FormatCount(inspection.parameters), prediction)});
  facts.AddRow({"tensors", fmt::format("{} in {}", FormatCount(inspection.tensors), FormatBytes(inspection.bytes))});
  for (const std::string& name : inspection.tied) facts.AddRow({"tied", name + " is the embedding"});
  if (!inspection.side_files.empty())
    facts.AddRow({"beside them", fmt::format("{}", fmt::join(inspection.side_files, ", "))});
  text += facts.ToString("  ");

  Table encodings({"encoding", ">tensors", ">parameters", ">bytes"});
  for (const auto& [name, share] : inspection.encodings) {
    encodings.AddRow({name, FormatCount(share.tensors), FormatCount(share.elements), FormatBytes(share.bytes)});
  }
  if (!encodings.empty()) text += "\n" + encodings.ToString("  ");

  Table files({inspection.kind == "recipe" ? "files of its parents" : "files", ">bytes"});
  for (const auto& file : inspection.files) files.AddRow({file.name, FormatBytes(file.size_bytes)});
  if (!files.empty()) text += "\n" + files.ToString("  ");

  if (!inspection.problems.empty()) text += "\n";
  for (const checkpoint::Problem& problem : inspection.problems) {
    text +=
        fmt::format("  {}: {}{}{}\n", SeverityName(problem.severity), problem.file.empty() ? "" : problem.file + ": ",
                    problem.tensor.empty() ? "" : problem.tensor + ": ", problem.message);
  }
  return text;
}

ordered_json TensorListJson(const checkpoint::Catalogue& tensors) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = tensors[i];
    list.push_back({{"name", tensor.name},
                    {"encoding", tensor.encoding.name()},
                    {"shape", std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end())},
                    {"bytes", tensor.size_bytes()}});
  }
  return list;
}

std::string TensorListText(const checkpoint::Catalogue& tensors) {
  Table table({"tensor", "encoding", "shape", ">bytes"});
  for (size_t i = 0; i < tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = tensors[i];
    table.AddRow({std::string(tensor.name), std::string(tensor.encoding.name()), checkpoint::ShapeText(tensor.shape),
                  FormatCount(tensor.size_bytes())});
  }
  return table.ToString("  ");
}

ordered_json DigestJson(const DigestResult& result) {
  ordered_json json;
  json["ref"] = result.ref;
  json["root"] = kernels::ToHex(result.digest.model_root);
  json["weights_root"] = kernels::ToHex(result.digest.weights_root);
  json["config_hash"] = kernels::ToHex(result.digest.config_hash);
  json["tokenizer_hash"] = kernels::ToHex(result.digest.tokenizer_hash);
  json["bytes"] = result.digest.size_bytes;
  json["tied"] = result.digest.tied;
  json["tensors"] = ordered_json::array();
  for (const checkpoint::TensorDigest& tensor : result.digest.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"encoding", tensor.encoding},
                               {"shape", tensor.shape},
                               {"digest", kernels::ToHex(tensor.root)}});
  }
  return json;
}

std::string DigestText(const DigestResult& result) {
  std::string text = fmt::format("{}\n", result.ref);
  Table table({"", ""});
  table.AddRow({"root", kernels::ToHex(result.digest.model_root)});
  table.AddRow({"weights_root", kernels::ToHex(result.digest.weights_root)});
  table.AddRow({"tensors", fmt::format("{} in {}", FormatCount(result.digest.tensors.size()),
                                       FormatBytes(result.digest.size_bytes))});
  for (const std::string& name : result.digest.tied) {
    table.AddRow({"tied", name + " is a stored copy of the embedding, and left out of the roots"});
  }
  table.AddRow({"took", fmt::format("{} at {}", FormatSeconds(result.seconds),
                                    FormatRate(Rate(result.bytes_read, result.seconds)))});
  return text + table.ToString("  ");
}

Result<ManifestCheck> CheckManifest(const checkpoint::ModelDigest& digest, const std::string& manifest,
                                    std::string_view text) {
  const ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto is_text = [](const ordered_json& object, const char* key) {
    return object.is_object() && object.contains(key) && object[key].is_string();
  };
  if (!is_text(json, "schema") || json["schema"] != "sluice/digest/v1" || !is_text(json, "root") ||
      !is_text(json, "weights_root") || !json.contains("tensors") || !json["tensors"].is_array()) {
    return Fail(ErrorCode::kCorrupt, manifest + ": this is no manifest of `sluice digest REF -o manifest.json`");
  }
  ManifestCheck check;
  check.manifest = manifest;
  check.stated_root = json["root"].get<std::string>();
  check.same_root = check.stated_root == kernels::ToHex(digest.model_root);
  check.same_weights_root = json["weights_root"] == kernels::ToHex(digest.weights_root);
  std::map<std::string, const ordered_json*> stated;
  for (const ordered_json& tensor : json["tensors"]) {
    if (!is_text(tensor, "name") || !is_text(tensor, "digest") || !is_text(tensor, "encoding") ||
        !tensor.contains("shape")) {
      return Fail(ErrorCode::kCorrupt, manifest + ": an entry of tensors[] has no name, encoding, shape or digest");
    }
    if (!stated.emplace(tensor["name"].get<std::string>(), &tensor).second) {
      return Fail(ErrorCode::kCorrupt,
                  fmt::format("{}: the tensor {} is listed twice", manifest, tensor["name"].dump()));
    }
  }
  for (const checkpoint::TensorDigest& tensor : digest.tensors) {
    const auto found = stated.find(tensor.name);
    if (found == stated.end()) {
      check.differences.push_back({tensor.name, "not in the manifest"});
      continue;
    }
    const ordered_json& entry = *found->second;
    if (entry["shape"] != ordered_json(tensor.shape)) {
      check.differences.push_back(
          {tensor.name,
           fmt::format("shape {}, {} in the manifest", checkpoint::ShapeText(tensor.shape), entry["shape"].dump())});
    } else if (entry["encoding"] != tensor.encoding) {
      check.differences.push_back(
          {tensor.name, fmt::format("{}, {} in the manifest", tensor.encoding, entry["encoding"].get<std::string>())});
    } else if (entry["digest"] != kernels::ToHex(tensor.root)) {
      check.differences.push_back({tensor.name, "its bytes differ"});
    }
    stated.erase(found);
  }
  for (const auto& [name, entry] : stated) check.differences.push_back({name, "only in the manifest"});
  return check;
}

ordered_json ManifestCheckJson(const ManifestCheck& check) {
  ordered_json json;
  json["manifest"] = check.manifest;
  json["same"] = check.same();
  json["stated_root"] = check.stated_root;
  json["same_weights"] = check.same_weights_root;
  json["differences"] = ordered_json::array();
  for (const ManifestDifference& difference : check.differences) {
    json["differences"].push_back({{"name", difference.name}, {"what", difference.what}});
  }
  return json;
}

std::string ManifestCheckText(const ManifestCheck& check) {
  if (check.same()) return fmt::format("{}: the same\n", check.manifest);
  std::string text = fmt::format("{}: DIFFERENT\n", check.manifest);
  if (check.same_weights_root && check.differences.empty()) {
    return text + "  the weights are the same, the config or the tokenizer is another\n";
  }
  Table table({"tensor", "what"});
  for (const ManifestDifference& difference : check.differences) table.AddRow({difference.name, difference.what});
  return text + (table.empty() ? std::string() : table.ToString("  "));
}

ordered_json ConvertJson(const WriteResult& result) {
  ordered_json json;
  json["output"] = result.output;
  json["root"] = kernels::ToHex(result.digest.model_root);
  json["weights_root"] = kernels::ToHex(result.digest.weights_root);
  json["files"] = FilesJson(result.files);
  json["tensors"] = result.digest.tensors.size();
  json["bytes_read"] = result.bytes_read;
  json["bytes_written"] = result.bytes_written;
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = result.peak_memory_bytes;
  return json;
}

namespace {

void AddWritten(const WriteResult& result, Table* table) {
  table->AddRow({"root", kernels::ToHex(result.digest.model_root)});
  table->AddRow(
      {"tensors",
       fmt::format("{} in {}", FormatCount(result.digest.tensors.size()),
                   Plural(static_cast<uint64_t>(std::ranges::count_if(
                              result.files,
                              [](const checkpoint::WrittenFile& file) { return file.name.ends_with(".safetensors"); })),
                          "shard", "shards"))});
  table->AddRow({"read", FormatBytes(result.bytes_read)});
  table->AddRow({"written", FormatBytes(result.bytes_written)});
  table->AddRow({"took", fmt::format("{}, {} of memory at most", FormatSeconds(result.seconds),
                                     FormatMemory(result.peak_memory_bytes))});
}

}  // namespace

std::string ConvertText(const WriteResult& result) {
  Table table({"", ""});
  AddWritten(result, &table);
  return result.output + "\n" + table.ToString("  ") + "\n" + FilesText(result.files);
}

ordered_json MergeJson(const MergeResult& result) {
  ordered_json json;
  json["output"] = result.written.output;
  json["root"] = kernels::ToHex(result.written.digest.model_root);
  json["weights_root"] = kernels::ToHex(result.written.digest.weights_root);
  json["files"] = FilesJson(result.written.files);
  json["tensors"] = result.written.digest.tensors.size();
  json["method"] = result.method;
  json["arithmetic"] = result.arithmetic;
  json["seed"] = result.seed;
  json["nan"] = ordered_json::array();
  for (const TensorNans& nan : result.nans) json["nan"].push_back({{"name", nan.name}, {"count", nan.count}});
  json["bytes_read"] = result.written.bytes_read;
  json["bytes_written"] = result.written.bytes_written;
  json["seconds"] = result.written.seconds;
  json["peak_memory_bytes"] = result.written.peak_memory_bytes;
  return json;
}

std::string MergeText(const MergeResult& result) {
  Table table({"", ""});
  table.AddRow({"method", fmt::format("{}, {} arithmetic, seed {}", result.method, result.arithmetic, result.seed)});
  AddWritten(result.written, &table);
  std::string text = result.written.output + "\n" + table.ToString("  ");
  for (const TensorNans& nan : result.nans) {
    text += fmt::format("  warning: {}: {} NaN\n", nan.name, FormatCount(nan.count));
  }
  return text + "\n" + FilesText(result.written.files) +
         fmt::format("\n  to check it against the recipe: sluice verify {} RECIPE\n", result.written.output);
}

}  // namespace sluice::report
