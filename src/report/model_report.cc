#include "report/model_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "kernels/sha256.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;

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

ordered_json ManifestCheckJson(const verify::ManifestCheck& check) {
  ordered_json json;
  json["manifest"] = check.manifest;
  json["same"] = check.same();
  json["stated_root"] = kernels::ToHex(check.stated_root);
  json["same_weights"] = check.same_weights;
  json["same_config"] = check.same_config;
  json["same_tokenizer"] = check.same_tokenizer;
  json["differences"] = ordered_json::array();
  for (const verify::ManifestDifference& difference : check.differences) {
    ordered_json entry = {
        {"name", difference.name}, {"class", verify::ManifestChangeName(difference.change)}, {"what", difference.what}};
    if (!difference.other_name.empty()) entry["other_name"] = difference.other_name;
    json["differences"].push_back(std::move(entry));
  }
  return json;
}

std::string ManifestCheckText(const verify::ManifestCheck& check) {
  if (check.same()) return fmt::format("{}: the same\n", check.manifest);
  std::string text = fmt::format("{}: DIFFERENT\n", check.manifest);
  if (check.same_weights) text += "  the weights are the same\n";
  if (!check.same_config) text += "  the config is another\n";
  if (!check.same_tokenizer) text += "  the tokenizer is another\n";
  Table table({"tensor", "what"});
  for (const verify::ManifestDifference& difference : check.differences) {
    table.AddRow({difference.name, difference.what});
  }
  return text + (table.empty() ? std::string() : table.ToString("  "));
}

std::string OverflowText(const TensorOverflow& overflow) {
  return fmt::format("{} became infinite in {}", Plural(overflow.count, "finite number", "finite numbers"),
                     overflow.encoding);
}

ordered_json ConvertJson(const WriteResult& result) {
  ordered_json json;
  json["output"] = result.output;
  json["root"] = kernels::ToHex(result.digest.model_root);
  json["weights_root"] = kernels::ToHex(result.digest.weights_root);
  json["files"] = FilesJson(result.files);
  json["tensors"] = result.digest.tensors.size();
  json["problems"] = ordered_json::array();
  for (const TensorOverflow& overflow : result.overflows) {
    json["problems"].push_back(
        {{"severity", "warning"}, {"file", ""}, {"tensor", overflow.name}, {"message", OverflowText(overflow)}});
  }
  json["bytes_read"] = result.bytes_read;
  json["bytes_written"] = result.bytes_written;
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = result.peak_memory_bytes;
  return json;
}

namespace {

void AddWritten(const WriteResult& result, Table* table) {
  table->AddRow({"root", kernels::ToHex(result.digest.model_root)});
  const auto num_shards = static_cast<uint64_t>(std::ranges::count_if(result.files, [](const auto& file) {
    return file.name.ends_with(".safetensors") || file.name.ends_with(".gguf");
  }));
  table->AddRow({"tensors", fmt::format("{} in {}", FormatCount(result.digest.tensors.size()),
                                        Plural(num_shards, "shard", "shards"))});
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
  if (!result.report.empty()) json["report"] = result.report;
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
  if (!result.report.empty()) text += fmt::format("  a page of it: {}\n", result.report);
  return text + "\n" + FilesText(result.written.files) +
         fmt::format("\n  to check it against the recipe: sluice verify {} RECIPE\n", result.written.output);
}

}  // namespace sluice::report
